/* Calls of the TLS library under way, by thread: what is known at their entry, and which socket was at work within them.
 *
 * A call on the socket that runs within a call of the library on the same thread proves which socket carries a session.
 * Where the application moves the ciphertext itself, user space finds the socket.
 */
#pragma once

#include "tls_session.h"

/* Calls of the library within each other, by way of an application's callbacks. A power of two. */
#define TLS_DEPTH 4

/* What the library adds to plain text that it sends itself: header, nonce, padding and tag of each record. */
#define FULL_RECORD 16384
#define LEAST_ADDED 16
#define MOST_ADDED 96

/* The direction of a handshake, which goes both ways. */
#define EITHER_DIRECTION 2

/* Functions of the library that call each other lie this close, for they are of one source file. */
#define NEARBY (64 << 10)

/* A call of the library under way. */
struct tls_call {
	u64 session;
	u64 base;
	u64 room;	/* bytes there, of a call that reads */
	u64 count_at;	/* where the function leaves the count; 0 where it returns it */
	u64 stack;	/* the stack pointer at entry: tells this call from those within it */
	u64 time_ns;
	u64 carrier;	/* the socket that was at work within it, NO_CARRIER or SEVERAL_CARRIERS */
	u64 moved;	/* bytes that socket sent or received */
	u32 direction;
	u32 reason;	/* enum unseen: the bytes never were in the application's memory */
};

/* A call that is told, in parts. */
struct plain {
	struct data_record record;
	u64 base;
	u64 begin;	/* stream offset of its first byte */
	u64 length;
	u64 position;	/* bytes dealt with */
	u64 told;	/* bytes in records already made */
	u64 skipped;	/* bytes before `position` that are not to be copied */
	u64 reason;	/* enum unseen, where that is not because nobody wants them */
	u64 runs;	/* of the program that walks it */
};

/* Those of a thread, the outermost first, and the one that is over. Programs of uprobes may be preempted, so what has no
 * room on their stack lies with the thread.
 */
struct tls_stack {
	u64 depth;
	struct tls_call calls[TLS_DEPTH];
	struct tls_call over;
	struct plain plain;
};

BPF_TABLE("lru_hash", u64, struct tls_stack, tls_calls, 16384);	/* by thread */
BPF_TABLE("array", u32, struct tls_stack, tls_no_calls, 1);

/* Forgets calls that ended unseen: the stack has been above theirs since. Returns the innermost one. */
static inline struct tls_call *innermost(struct tls_stack *calls, u64 stack)
{
	struct tls_call *call;
	u64 at;

#pragma clang loop unroll(disable)
	for (int i = 0; i < TLS_DEPTH; i++) {
		if (!calls->depth)
			return 0;
		at = (calls->depth - 1) & (TLS_DEPTH - 1);
		call = &calls->calls[at];
		if (call->stack >= stack)
			return call;
		calls->depth = at;
	}
	return 0;
}

/* Is a call of the library that has `wanted` for its direction one in which this could be its socket? Of a handshake only
 * sockets are wanted that the kernel does not encrypt yet, and not those of a call within it: see on_handshake_over().
 */
static inline int concerns(u32 wanted, u64 sk, u32 direction, u32 innermost)
{
	return wanted == direction || (wanted == EITHER_DIRECTION && innermost && !sk_has_kernel_tls(sk));
}

/* A socket sent or received within a call of the library? `stack` is the thread's in user space, 0 where it cannot be
 * known. Callbacks of the application may use sockets of their own, hence what may_carry() asks.
 */
static inline void note_carrier(u64 sk, u32 direction, u64 moved, u64 stack)
{
	u64 id = bpf_get_current_pid_tgid();
	struct tls_stack *calls = tls_calls.lookup(&id);
	struct tls_call *call;

	if (!calls || !calls->depth || !sk_is_tcp(sk))
		return;
#pragma clang loop unroll(disable)
	for (int i = 0; i < TLS_DEPTH; i++) {
		call = &calls->calls[i & (TLS_DEPTH - 1)];
		if (i >= calls->depth || call->stack < stack || !concerns(call->direction, sk, direction, i + 1 == calls->depth))
			continue;
		call->moved += moved;
		if (call->carrier == NO_CARRIER)
			call->carrier = sk;
		else if (call->carrier != sk)
			call->carrier = SEVERAL_CARRIERS;
	}
}

/* Could what the socket moved within the call be its `count` bytes of plain text, encrypted? Reading, the library may have
 * taken more than it gives. Where the kernel encrypts, the plain text itself is what the socket's calls move.
 */
static inline int may_carry(struct tls_call *call, s64 count)
{
	u64 records, added;

	if (call->carrier == NO_CARRIER || call->carrier == SEVERAL_CARRIERS || count <= 0)
		return 0;
	records = (u64)count / FULL_RECORD + 1;
	added = sk_has_kernel_tls(call->carrier) ? 0 : LEAST_ADDED;
	if (call->moved < count + added)
		return 0;
	return call->direction == RECEIVED || call->moved <= count + records * MOST_ADDED;
}

/* Does the library call its own function? What calls it is where it will return to. */
static inline int is_called_by_library(struct pt_regs *ctx)
{
	u64 back = 0;

	if (copy_from_user(&back, sizeof(back), (void *)ctx->sp))
		return 0;
	return back - ctx->ip + NEARBY < 2 * NEARBY;
}

static inline void enter_library(struct pt_regs *ctx, u64 base, u64 count_at, u32 direction, u32 reason)
{
	u64 id = bpf_get_current_pid_tgid(), at;
	struct settings *to = read_settings();
	struct tls_stack *calls, *none;
	struct tls_call *call;
	u32 zero = 0;

	if (!to || id >> 32 == to->own_pid)
		return;
	calls = tls_calls.lookup(&id);
	if (!calls) {
		none = tls_no_calls.lookup(&zero);
		if (!none)
			return;
		tls_calls.update(&id, none);
		calls = tls_calls.lookup(&id);
		if (!calls)
			return;
	}
	/* The library's functions may call each other: the outermost one counts. Others come by way of a callback, or from
	 * deeper in the stack when a callback has left the one before by longjmp(). That one came to nothing, and is made again.
	 */
	call = innermost(calls, ctx->sp + 1);
	if (call && call->session == ctx->di && call->direction == direction && call->base == base) {
		if (is_called_by_library(ctx))
			return;
		calls->depth -= 1;
	}
	if (calls->depth >= TLS_DEPTH)
		calls->depth = 0;	/* no callbacks go so deep: these were left */
	at = calls->depth & (TLS_DEPTH - 1);
	call = &calls->calls[at];
	call->session = ctx->di;
	call->base = base;
	call->room = ctx->dx;
	call->count_at = count_at;
	call->stack = ctx->sp;
	call->time_ns = bpf_ktime_get_ns();
	call->carrier = NO_CARRIER;
	call->moved = 0;
	call->direction = direction;
	call->reason = reason;
	calls->depth = at + 1;
}

/* The call that returns, if it is the one that was noted, is over; those within it are passed over. */
static inline struct tls_stack *leave_library(struct pt_regs *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	struct tls_stack *calls = tls_calls.lookup(&id);
	struct tls_call *entered;

	if (!calls)
		return 0;
	/* The return address is off the stack. */
	entered = innermost(calls, ctx->sp - 8);
	if (!entered || entered->stack + 8 != ctx->sp)
		return 0;
	calls->over = *entered;
	calls->depth -= 1;
	return calls;
}
