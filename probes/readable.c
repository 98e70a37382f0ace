/* A socket can be read: bytes have arrived, or a listening socket has a connection to accept, or a name server has
 * answered. One hook for all, because the kernel calls the same function: sock_def_readable(), with a tracepoint of its own since kernel commit 40e0b0908142
 * ("net/sock: Introduce trace_sk_data_ready()"), 6.3. It runs in softirq, or in the call that had the socket locked.
 */
#include "include/life.h"
#include "include/arrivals.h"
#include "include/names.h"

static inline void look_at_queue(u64 sk, struct listener *listener)
{
	u32 depth = read_u32(sk + OFFSET_SOCK_SK_ACK_BACKLOG);

	listener->depth = depth;
	if (depth > listener->deepest)
		listener->deepest = depth;
	listener->limit = read_u32(sk + OFFSET_SOCK_SK_MAX_ACK_BACKLOG);
	listener->dropped = read_u32(sk + OFFSET_SOCK_SK_DROPS);
}

static inline void readable(u64 sk)
{
	struct arrivals *noted = arrivals.lookup(&sk);
	struct listener *listener;
	struct settings *to;
	u8 state;

	if (noted) {
		note_arrival(sk, noted);
		return;
	}
	state = sk_state(sk);
	if (state == TCP_ESTABLISHED && sk_asks_names(sk)) {	/* UDP has this state for connected sockets */
		to = read_settings();
		/* Where processes are chosen, nothing of others is told: whose answer this is nobody knows here. */
		if (to && !(to->modes & (MODE_PIDS | MODE_CGROUPS)))
			tell_answer(sk);
		return;
	}
	if (state != TCP_LISTEN || !sk_is_tcp(sk) || !read_settings())
		return;
	listener = listeners.lookup(&sk);
	if (!listener)
		listener = meet_listener(sk, 0);
	if (listener)
		look_at_queue(sk, listener);
}

int on_readable(struct bpf_raw_tracepoint_args *ctx)
{
	readable(ctx->args[0]);
	return 0;
}

#ifdef WITH_KPROBES
/* The same before 6.3. */
int on_readable_call(struct pt_regs *ctx)
{
	readable(ctx->di);
	return 0;
}
#endif

/* User space wants to know how it stands with a listening socket: it runs this program with the socket for its argument. */
int on_look(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[0];
	struct listener *listener = listeners.lookup(&sk);

	if (!listener)
		return 0;
	look_at_queue(sk, listener);
	listener->deepest_told = listener->deepest;
	listener->deepest = listener->depth;
	return 0;
}
