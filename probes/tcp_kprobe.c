/* The kprobe tier: tcp_sendmsg and tcp_recvmsg with their returns. At entry the buffers are noted (the iterator advances
 * during the call), at return the true length is known.
 */
#include "include/call.h"
#include "include/iterator.h"

/* Calls under way, by thread. A thread is in one at a time; an entry whose return was missed is overwritten. */
BPF_TABLE("lru_hash", u64, struct call, calls, 16384);

static inline void enter(u64 sk, u64 message, u32 direction, u32 flags)
{
	u64 id = bpf_get_current_pid_tgid();
	struct call call = {};

	call.sk = sk;
	call.direction = direction;
	call.time_ns = bpf_ktime_get_ns();
	call.flags = flags;
	find_segments(&call, message);
	calls.update(&id, &call);
}

static inline void leave(struct pt_regs *ctx, u32 direction)
{
	u64 id = bpf_get_current_pid_tgid();
	struct call *entered = calls.lookup(&id), *call;
	struct work *work = workspace();
	int result = ctx->ax;

	if (!work)
		return;
	if (!entered || entered->direction != direction) {
		if (result > 0)
			count_loss(LOSS_NO_ENTRY, result);
		return;
	}
	call = &work->call;
	*call = *entered;
	calls.delete(&id);
	if (result <= 0)
		return;
	if (direction == RECEIVED) {
		if (call->flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE))
			return;
		if (call->flags & MSG_TRUNC)
			call->reason = UNSEEN_TRUNC;
		call->time_ns = bpf_ktime_get_ns();
	}
#ifdef WITH_TLS
	note_carrier(call->sk, direction, result, 0);
#endif
	call->length = result;
	pass_on(ctx, work);
}

int on_send(struct pt_regs *ctx)
{
	enter(ctx->di, ctx->si, SENT, 0);
	return 0;
}

int on_receive(struct pt_regs *ctx)
{
#if RECEIVE_FLAGS_ARGUMENT == 5
	u32 flags = ctx->r8;
#else
	u32 flags = ctx->cx;
#endif
	enter(ctx->di, ctx->si, RECEIVED, flags);
	return 0;
}

int on_send_return(struct pt_regs *ctx)
{
	leave(ctx, SENT);
	return 0;
}

int on_receive_return(struct pt_regs *ctx)
{
	leave(ctx, RECEIVED);
	return 0;
}

/* sendfile until 6.4; the function went with kernel commit dc97391e6610 ("sock: Remove ->sendpage*()"). */
int on_send_page(struct pt_regs *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	struct call call = {};

	call.sk = ctx->di;
	call.direction = SENT;
	call.time_ns = bpf_ktime_get_ns();
	call.reason = UNSEEN_SENDFILE;
	calls.update(&id, &call);
	return 0;
}

int on_call(struct pt_regs *ctx)
{
	tell_call(ctx);
	return 0;
}

int on_frames(struct pt_regs *ctx)
{
	tell_frames(ctx);
	return 0;
}
