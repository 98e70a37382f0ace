/* Plain text of TLS, taken where an application hands it to its TLS library and gets it back (uprobes).
 *
 * A session (SSL *, gnutls_session_t) is told by its process and its pointer. Its plain text counts as a stream of its own
 * each way; bytes are taken when the function returns, with the true count: a call that failed or has to be repeated
 * counts nothing. A call costs two traps, one at entry and one at return, and cannot do with fewer: the buffer is known at
 * entry only, the count at return only.
 *
 * Which socket carries a session is proved by a call on the socket that runs within a call of the library on the same
 * thread. Where the application moves the ciphertext itself, user space finds the socket.
 *
 * Programs of uprobes may be preempted (kernel commit 8c7dcb84e3b7 "bpf: implement sleepable uprobes by chaining gps",
 * 6.0), so they have no workspace of the CPU: bytes are copied into the ring itself.
 */
#pragma once

#include "segments.h"

/* A record of plain text takes room in the ring for one of these numbers of bytes. */
#define PLAIN_SMALL 512
#define PLAIN_MIDDLE 2048
#define PLAIN_LARGE 8192
#define PLAIN_HUGE 65536	/* for sessions of which user space wants more than heads */

#define NO_CARRIER 0
#define SEVERAL_CARRIERS 1	/* no address of a socket */

/* Calls of the library within each other, by way of an application's callbacks. A power of two. */
#define TLS_DEPTH 4

/* What the library adds to plain text that it sends itself: header, nonce, padding and tag of each record. */
#define FULL_RECORD 16384
#define LEAST_ADDED 16
#define MOST_ADDED 96

struct tls_key {
	u64 session;
	u32 pid;
	u32 reserved;
};

struct tls_entry {
	struct socket_entry plain;	/* the stream, as if a socket carried it */
	struct socket_key carrier;
};

/* A call of the library under way. */
struct tls_call {
	u64 session;
	u64 base;
	u64 count_at;	/* where the function leaves the count; 0 where it returns it */
	u64 stack;	/* the stack pointer at entry: tells this call from those within it */
	u64 time_ns;
	u64 carrier;	/* the socket that was at work within it, NO_CARRIER or SEVERAL_CARRIERS */
	u64 moved;	/* bytes that socket sent or received */
	u32 direction;
	u32 reason;	/* enum unseen: the bytes never were in the application's memory */
};

/* Those of a thread, the outermost first. */
struct tls_stack {
	u64 depth;
	struct tls_call calls[TLS_DEPTH];
};

struct small_piece {
	struct data_record record;
	u8 payload[PLAIN_SMALL];
};

struct middle_piece {
	struct data_record record;
	u8 payload[PLAIN_MIDDLE];
};

struct large_piece {
	struct data_record record;
	u8 payload[PLAIN_LARGE];
};

struct huge_piece {
	struct data_record record;
	u8 payload[PLAIN_HUGE];
};

/* A call to be told. */
struct plain {
	struct data_record record;
	u64 base;
};

BPF_TABLE("lru_hash", struct tls_key, struct tls_entry, tls_sessions, MAX_TLS_SESSIONS);
BPF_TABLE("lru_hash", u64, struct tls_stack, tls_calls, 16384);	/* by thread */

/* Pointers of user space have 47 bits, so two processes' sessions differ; and at one time there is one such pointer. */
static inline u64 name_session(struct tls_key *key)
{
	return key->session ^ (u64)key->pid << 47;
}

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

/* A socket sent or received within a call of the library that writes or reads? `stack` is the thread's in user space, 0
 * where it cannot be known. Callbacks of the application may use sockets of their own, hence what may_carry() asks.
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
		if (i >= calls->depth || call->stack < stack || call->direction != direction)
			continue;
		call->moved += moved;
		if (call->carrier == NO_CARRIER)
			call->carrier = sk;
		else if (call->carrier != sk)
			call->carrier = SEVERAL_CARRIERS;
	}
}

/* Could what the socket moved within the call be its `count` bytes of plain text, encrypted? Reading, the library may have
 * taken more than it gives.
 */
static inline int may_carry(struct tls_call *call, s64 count)
{
	u64 records;

	if (call->carrier == NO_CARRIER || call->carrier == SEVERAL_CARRIERS || count <= 0)
		return 0;
	records = (u64)count / FULL_RECORD + 1;
	if (call->moved < count + LEAST_ADDED)
		return 0;
	return call->direction == RECEIVED || call->moved <= count + records * MOST_ADDED;
}

/* Returns 0 when the ring had no room. */
static inline int tell_session(struct tls_key *key, struct tls_entry *entry, u8 event)
{
	struct tls_record *record = events.ringbuf_reserve(sizeof(*record));

	if (!record) {
		count_loss(LOSS_RING_FULL_STATE, 0);
		return 0;
	}
	fill_header(&record->header, RECORD_TLS, sizeof(*record), name_session(key), &entry->plain);
	record->header.time_ns = bpf_ktime_get_ns();
	record->endpoints = entry->plain.endpoints;
	record->carrier = entry->carrier.socket;
	record->carrier_epoch_ns = entry->carrier.epoch_ns;
	record->sent = entry->plain.end[SENT];
	record->received = entry->plain.end[RECEIVED];
	record->lost_sent = entry->plain.lost[SENT];
	record->lost_received = entry->plain.lost[RECEIVED];
	record->muted_sent = entry->plain.muted[SENT];
	record->muted_received = entry->plain.muted[RECEIVED];
	record->event = event;
	__builtin_memset(record->reserved, 0, sizeof(record->reserved));
	events.ringbuf_submit(record, DO_NOT_WAKE);
	return 1;
}

static inline void begin_session(struct tls_key *key, u16 flags, struct settings *to)
{
	struct tls_entry entry = {};

	entry.plain.epoch_ns = bpf_ktime_get_ns();
	entry.plain.flags = FLAG_PLAIN | flags;
	entry.plain.direction = NO_DIRECTION;
	entry.plain.command_generation = to->command_generation;
	entry.plain.pid = key->pid;
	tls_sessions.update(key, &entry);
}

static inline void end_session(struct tls_key *key)
{
	struct tls_entry *entry = tls_sessions.lookup(key);

	if (!entry)
		return;
	if (entry->plain.told)
		tell_session(key, entry, TLS_ENDED);
	tls_sessions.delete(key);
}

/* The library made a session: its plain text is seen from the first byte. */
static inline void on_session_made(u64 session)
{
	struct tls_key key = { .session = session, .pid = bpf_get_current_pid_tgid() >> 32 };
	struct settings *to = read_settings();

	if (!to || !session || key.pid == to->own_pid)
		return;
	end_session(&key);
	begin_session(&key, 0, to);
}

static inline void on_session_freed(u64 session)
{
	struct tls_key key = { .session = session, .pid = bpf_get_current_pid_tgid() >> 32 };

	if (session)
		end_session(&key);
}

static inline void on_session_shut(u64 session)
{
	struct tls_key key = { .session = session, .pid = bpf_get_current_pid_tgid() >> 32 };
	struct tls_entry *entry = tls_sessions.lookup(&key);

	/* Called again until the peer has answered. */
	if (!entry || !entry->plain.told || entry->plain.state == TCP_FIN_WAIT1)
		return;
	entry->plain.state = TCP_FIN_WAIT1;
	tell_session(&key, entry, TLS_SHUT);
}

static inline void enter_library(struct pt_regs *ctx, u64 base, u64 count_at, u32 direction, u32 reason)
{
	u64 id = bpf_get_current_pid_tgid(), at;
	struct settings *to = read_settings();
	struct tls_stack *calls, none = {};
	struct tls_call *call;

	if (!to || id >> 32 == to->own_pid)
		return;
	calls = tls_calls.lookup(&id);
	if (!calls) {
		tls_calls.update(&id, &none);
		calls = tls_calls.lookup(&id);
		if (!calls)
			return;
	}
	/* The library's functions may call each other: the outermost one counts. Others come by way of a callback. */
	call = innermost(calls, ctx->sp + 1);
	if (call && call->session == ctx->di && call->direction == direction && call->base == base)
		return;
	if (calls->depth >= TLS_DEPTH)
		return;
	at = calls->depth & (TLS_DEPTH - 1);
	call = &calls->calls[at];
	call->session = ctx->di;
	call->base = base;
	call->count_at = count_at;
	call->stack = ctx->sp;
	call->time_ns = bpf_ktime_get_ns();
	call->carrier = NO_CARRIER;
	call->moved = 0;
	call->direction = direction;
	call->reason = reason;
	calls->depth = at + 1;
}

/* Takes what is known of the socket into the session; it keeps the last one that was proved. */
static inline void bind_session(struct tls_key *key, struct tls_entry *entry, u64 sk)
{
	struct socket_entry *carrier;

	carrier = sockets.lookup(&sk);
	if (!carrier)
		return;
	if (carrier->verdict == VERDICT_OWN || carrier->verdict == VERDICT_FILTERED) {
		entry->plain.verdict = carrier->verdict;
		return;
	}
	if (entry->carrier.socket == sk && entry->carrier.epoch_ns == carrier->epoch_ns)
		return;
	entry->carrier.socket = sk;
	entry->carrier.epoch_ns = carrier->epoch_ns;
	entry->plain.endpoints = carrier->endpoints;
	entry->plain.flags &= ~(FLAG_CLIENT | FLAG_SERVER);
	entry->plain.flags |= carrier->flags & (FLAG_CLIENT | FLAG_SERVER);
	entry->plain.told = 1;
	if (!tell_session(key, entry, TLS_BOUND))
		entry->carrier.socket = NO_CARRIER;	/* the next call tries again */
}

/* The last bytes of a call of which not all is copied, for the record's tail. */
static inline u64 read_tail(struct tls_call *call, u64 length, u64 tail_length)
{
	u64 tail = 0;

	asm volatile("" : "+r"(tail_length));
	if (tail_length > TAIL_BYTES)
		tail_length = TAIL_BYTES;
	copy_from_user(&tail, tail_length, (void *)(call->base + length - tail_length));
	return tail;
}

/* Copies `count` bytes, at most `room`, and tells the call. */
static inline void fill_plain(struct data_record *record, u8 *payload, u64 room, u64 count, struct plain *plain)
{
	u64 failed;

	asm volatile("" : "+r"(count));
	if (count > room)
		count = room;
	failed = copy_from_user(payload, count, (void *)plain->base) != 0;
	*record = plain->record;
	if (failed) {
		record->captured = 0;
		record->tail_length = 0;
		record->header.size = sizeof(*record);
		record->header.flags = (record->header.flags & 0xff) | UNSEEN_FAULT << 8;
	}
	events.ringbuf_submit(record, DO_NOT_WAKE);
}

/* The room is reserved in one of four sizes, for the kernel wants to know it beforehand. Returns 0 when there is none. */
static inline int tell_plain(struct plain *plain, u64 count)
{
	struct small_piece *small;
	struct middle_piece *middle;
	struct large_piece *large;
	struct huge_piece *huge;

	if (count <= PLAIN_SMALL) {
		small = events.ringbuf_reserve(sizeof(*small));
		if (!small)
			return 0;
		fill_plain(&small->record, small->payload, PLAIN_SMALL, count, plain);
	} else if (count <= PLAIN_MIDDLE) {
		middle = events.ringbuf_reserve(sizeof(*middle));
		if (!middle)
			return 0;
		fill_plain(&middle->record, middle->payload, PLAIN_MIDDLE, count, plain);
	} else if (count <= PLAIN_LARGE) {
		large = events.ringbuf_reserve(sizeof(*large));
		if (!large)
			return 0;
		fill_plain(&large->record, large->payload, PLAIN_LARGE, count, plain);
	} else {
		huge = events.ringbuf_reserve(sizeof(*huge));
		if (!huge)
			return 0;
		fill_plain(&huge->record, huge->payload, PLAIN_HUGE, count, plain);
	}
	return 1;
}

/* Heads whole, bodies counted, as segments.h does it for sockets. */
static inline void copy_plain(struct tls_key *key, struct tls_entry *entry, struct tls_call *call, u64 begin, u64 length,
			      struct settings *to)
{
	u32 direction = call->direction & 1;
	u64 budget = entry->plain.budget[direction], count, rest, tail = 0;
	struct plain plain = {};
	u32 start = 0;

	/* HTTP/2 (RFC 9113 section 3.4): headers lie between other frames, and not one may be missed. */
	if (!begin && !call->reason && !copy_from_user(&start, sizeof(start), (void *)call->base) &&
	    start == 0x20495250 /* PRI  */)
		entry->plain.marks |= MARK_MORE;
	if (entry->plain.direction != direction ||
	    (!call->reason && budget < to->head_limit && starts_message(call->base)))
		budget = to->head_limit;
	if (entry->plain.marks & MARK_MORE && budget < to->more_limit)
		budget = to->more_limit;
	count = length < budget ? length : budget;
	if (count > PLAIN_HUGE)
		count = PLAIN_HUGE;
	if (call->reason)
		count = 0;
	entry->plain.direction = direction;
	entry->plain.budget[direction] = budget - count;

	plain.base = call->base;
	fill_header(&plain.record.header, RECORD_DATA, sizeof(plain.record) + count, name_session(key), &entry->plain);
	plain.record.header.time_ns = call->time_ns;
	plain.record.header.flags |= direction == SENT ? FLAG_SENT : 0;
	plain.record.endpoints = entry->plain.endpoints;
	plain.record.offset = begin;
	plain.record.length = length;
	plain.record.captured = count;
	rest = length - count;
	if (rest)
		plain.record.header.flags |= (call->reason ?: UNSEEN_BUDGET) << 8;
	if (rest && !call->reason) {
		plain.record.tail_length = rest < TAIL_BYTES ? rest : TAIL_BYTES;
		tail = read_tail(call, length, plain.record.tail_length);
		__builtin_memcpy(plain.record.tail, &tail, TAIL_BYTES);
	}
	if (tell_plain(&plain, count))
		return;
	count_loss(LOSS_RING_FULL_DATA, length);
	add(&entry->plain.lost[direction], length);
}

/* `count` bytes went through the library; none, or less, where the call failed or has to be repeated. */
static inline void tell_library_call(struct tls_call *call, s64 count)
{
	u64 id = bpf_get_current_pid_tgid(), begin;
	struct tls_key key = { .session = call->session, .pid = id >> 32 };
	struct settings *to = read_settings();
	u32 direction = call->direction & 1;
	struct tls_entry *entry;

	if (!to || !key.session)
		return;
	entry = tls_sessions.lookup(&key);
	if (!entry) {
		if (to->holding)
			return;
		begin_session(&key, FLAG_JOINED, to);
		entry = tls_sessions.lookup(&key);
		if (!entry)
			return;
	}
	heed_commands(name_session(&key), &entry->plain, to);
	entry->plain.tid = id;
	if (entry->plain.verdict == VERDICT_UNKNOWN) {
		entry->plain.verdict = verdict_on_process(key.pid, to);
		if (entry->plain.verdict != VERDICT_FILTERED && !tell_process(key.pid, id))
			entry->plain.verdict = VERDICT_UNKNOWN;
	}
	if (may_carry(call, count))
		bind_session(&key, entry, call->carrier);
	if (count <= 0 || entry->plain.verdict == VERDICT_FILTERED || entry->plain.verdict == VERDICT_OWN)
		return;
	begin = entry->plain.end[direction];
	entry->plain.end[direction] = begin + count;
	entry->plain.told = 1;
	if (entry->plain.marks & MARK_MUTED) {
		add(&entry->plain.muted[direction], count);
		return;
	}
	if (direction == RECEIVED)
		call->time_ns = bpf_ktime_get_ns();
	copy_plain(&key, entry, call, begin, count, to);
}

/* The call that returns, if it is the one that was noted; those within it are passed over. */
static inline int leave_library(struct pt_regs *ctx, struct tls_call *call)
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
	*call = *entered;
	calls->depth -= 1;
	return 1;
}
