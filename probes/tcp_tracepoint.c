/* The tracepoint tier: raw sock_send_length and sock_recv_length (6.3, kernel commit 6e6eda44b939 "sock: add tracepoint
 * for send recv length") fire in the system call that moved the bytes. Its number and arguments stand in the task's saved
 * registers, so no system call of the host is hooked.
 */
#include "include/call.h"
#include "include/syscalls.h"

static inline void on_length(struct bpf_raw_tracepoint_args *ctx, u32 direction)
{
	struct work *work = workspace();
	u32 flags = ctx->args[2];
	int result = ctx->args[1];
	struct call *call;

#ifdef WITH_TLS
	if (result > 0 && !(flags & MSG_PEEK))
		note_carrier(ctx->args[0], direction, result, user_stack());
#endif
	if (!work)
		return;
	call = &work->call;
	call->sk = ctx->args[0];
	call->base = 0;
	call->left = 0;
	call->vector = 0;
	call->segments = 0;
	call->direction = direction;
	call->length = result;
	call->reason = UNSEEN_NONE;
	find_buffers(call, result);
	if (result <= 0)
		return;
	if (direction == RECEIVED && flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE))
		return;
	if (direction == RECEIVED && flags & MSG_TRUNC)
		call->reason = UNSEEN_TRUNC;
	call->time_ns = bpf_ktime_get_ns();
	pass_on(ctx, work);
}

int on_send_length(struct bpf_raw_tracepoint_args *ctx)
{
	on_length(ctx, SENT);
	return 0;
}

int on_receive_length(struct bpf_raw_tracepoint_args *ctx)
{
	on_length(ctx, RECEIVED);
	return 0;
}

int on_call(struct bpf_raw_tracepoint_args *ctx)
{
	tell_call(ctx);
	return 0;
}

int on_frames(struct bpf_raw_tracepoint_args *ctx)
{
	tell_frames(ctx);
	return 0;
}
