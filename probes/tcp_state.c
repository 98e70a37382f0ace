/* The life of TCP sockets, from raw tracepoints that every kernel since 4.16 has: no kprobe, no system call hook.
 *
 * inet_sock_set_state fires before the new state is stored, in process context (connect, close, shutdown) or in softirq
 * (a segment arrived, a timer). A kernel skips a program that is already running on the CPU, so a softirq that interrupts
 * it would lose its transition: therefore the same program is loaded and attached twice, and the second does what the
 * first could not (an entry that already has the state is left alone). on_destroy likewise.
 */
#include "include/life.h"

/* A socket's memory was given to another one, or it connects anew, before the end of its life was told. */
static inline void tell_missed_end(u64 sk, struct socket_entry *entry)
{
	if (entry->life == LIFE_CLOSED)
		return;
	if (entry->life == LIFE_OPEN) {
		entry->sent = entry->end[SENT];
		entry->received = entry->end[RECEIVED];
		entry->arrived = entry->end[RECEIVED];
		entry->old_state = entry->state;
		entry->closed_ns = bpf_ktime_get_ns();
	}
	tell_end(sk, entry);
}

/* Is the birth in the table already? The program is run twice; and with TCP Fast Open the application may have been given
 * the socket, and read, before the handshake ended. Any other entry is of a life whose end was missed.
 */
static inline int is_born(u64 sk, struct socket_entry *entry, u8 state)
{
	if (entry->life != LIFE_OPEN)
		return 0;
	if (state == TCP_SYN_SENT)
		return entry->state == TCP_SYN_SENT;
	if (entry->state == TCP_SYN_RECV)
		entry->state = TCP_ESTABLISHED;
	return entry->state == TCP_ESTABLISHED && entry->base[SENT] == tcp_write_sequence(sk);
}

static inline struct socket_entry *begin(u64 sk, struct socket_entry *known, u8 state, struct settings *to)
{
	struct socket_entry entry = {};
	u64 id = bpf_get_current_pid_tgid();

	if (known)
		tell_missed_end(sk, known);
	entry.epoch_ns = bpf_ktime_get_ns();
	entry.state = state;
	entry.direction = NO_DIRECTION;
	entry.command_generation = to->command_generation;
	if (state == TCP_SYN_SENT) {
		entry.flags = FLAG_CLIENT;
		entry.old_state = TCP_CLOSE;
	} else {
		entry.flags = FLAG_SERVER;
		entry.old_state = TCP_SYN_RECV;
		entry.base[SENT] = tcp_write_sequence(sk);
		entry.base[RECEIVED] = tcp_copied_sequence(sk);
	}
	sk_endpoints(sk, &entry.endpoints);
	entry.verdict = verdict_on_ends(&entry, to);
	if (state == TCP_ESTABLISHED && entry.verdict == VERDICT_UNKNOWN)
		entry.marks = MARK_OPENED;
	if (sockets.update(&sk, &entry))
		return 0;
	if (entry.flags & FLAG_SERVER && is_of_interest(&entry))
		await_arrivals(sk);
	known = sockets.lookup(&sk);
	if (!known)
		return 0;
	if (state == TCP_SYN_SENT)
		meet_process(sk, known, to, id >> 32, id);
	else if (known->verdict == VERDICT_OWN)
		mark_own(known);
	return known;
}

static inline void establish_client(u64 sk, struct socket_entry *entry)
{
	/* Only now the source port is known, and the SYN counted. */
	sk_endpoints(sk, &entry->endpoints);
	if (!entry->end[SENT])
		entry->base[SENT] = tcp_write_sequence(sk);
	entry->base[RECEIVED] = tcp_copied_sequence(sk);
	if (entry->verdict == VERDICT_OWN)
		mark_own(entry);
}

/* The application may still read what had arrived, or is in a call that moved bytes and has not been told yet. */
static inline int is_in_use(u64 sk, struct socket_entry *entry)
{
	if (sk_is_orphan(sk))
		return 0;
	return entry->received < entry->arrived || entry->received != entry->end[RECEIVED] ||
	       entry->sent != entry->end[SENT] || entry->busy[RECEIVED] || entry->busy[SENT];
}

static inline struct listener *meet_listener(u64 sk, u32 pid)
{
	struct listener listener = {};

	listener.pid = pid;
	listener.epoch_ns = bpf_ktime_get_ns();
	sk_endpoints(sk, &listener.endpoints);
	listeners.update(&sk, &listener);
	return listeners.lookup(&sk);
}

static inline void listens(u64 sk, struct settings *to)
{
	u32 port = read_u16(sk + OFFSET_SOCK_COMMON_SKC_NUM), inode = sk_network_namespace(sk);
	u32 pid = bpf_get_current_pid_tgid() >> 32;

	if (!sk_is_tcp(sk))
		return;
	if (pid == to->own_pid)
		own_ports.update(&port, &inode);
	else
		meet_listener(sk, pid);
}

/* The process that ends a connection is known, also where it neither read nor wrote: who shuts down a socket is at work on
 * it. One that is ending itself has been forgotten already, and would not be forgotten again.
 */
static inline void meet_closer(u64 sk, struct socket_entry *entry, struct settings *to)
{
	u64 id = bpf_get_current_pid_tgid();

	if (entry->marks & MARK_ASKED || task_is_ending())
		return;
	meet_process(sk, entry, to, id >> 32, id);
	if (entry->marks & MARK_OPENED && entry->verdict == VERDICT_TRACED)
		tell_birth(sk, entry);
}

static inline void change_state(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[0], time_ns;
	u8 old_state = ctx->args[1], state = ctx->args[2];
	struct settings *to = read_settings();
	struct socket_entry *entry;

	if (!to)
		return;
	if (state == TCP_LISTEN) {
		listens(sk, to);
		return;
	}
	if (old_state == TCP_LISTEN) {
		listeners.delete(&sk);
		return;
	}
	entry = sockets.lookup(&sk);
	/* Of two sockets that connect to each other at once, each goes from SYN_SENT over SYN_RECV, and remains a client. */
	if (state == TCP_SYN_SENT ||
	    (state == TCP_ESTABLISHED && old_state == TCP_SYN_RECV && !(entry && entry->flags & FLAG_CLIENT))) {
		if (!sk_is_tcp(sk) || (entry && is_born(sk, entry, state)))
			return;
		entry = begin(sk, entry, state, to);
		if (!entry)
			return;
		note_numbers(sk, entry, state);
		time_ns = entry->epoch_ns;
	} else {
		if (!entry || entry->state == state || entry->life != LIFE_OPEN)
			return;
		if (state == TCP_FIN_WAIT1 || state == TCP_LAST_ACK)
			meet_closer(sk, entry, to);
		entry->old_state = old_state;
		entry->state = state;
		if (state == TCP_ESTABLISHED)
			establish_client(sk, entry);
		note_numbers(sk, entry, old_state);
		time_ns = entry->closed_ns;
	}
	if (state == TCP_CLOSE) {
		if (!entry->endpoints.local_port)
			entry->endpoints.local_port = from_network_order(read_u16(sk + OFFSET_INET_SOCK_INET_SPORT));
		if (is_in_use(sk, entry))
			entry->life = LIFE_ENDING;	/* told when the socket goes */
		else
			tell_end(sk, entry);
		return;
	}
	if (state == TCP_FIN_WAIT2 || entry->verdict == VERDICT_OWN || entry->verdict == VERDICT_FILTERED ||
	    entry->marks & MARK_OPENED)
		return;
	emit_state(sk, entry, time_ns, entry->old_state, state, state == TCP_SYN_SENT);
}

int on_state(struct bpf_raw_tracepoint_args *ctx)
{
	change_state(ctx);
	return 0;
}

/* tcp_destroy_sock: no call can be at work on the socket any more, so its entry may go. */
int on_destroy(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[0];
	struct socket_entry *entry = sockets.lookup(&sk);

	if (!entry)
		return 0;
	if (entry->life == LIFE_OPEN) {
		note_numbers(sk, entry, entry->state);
		entry->old_state = entry->state;
	}
	if (entry->received < entry->end[RECEIVED])
		entry->received = entry->end[RECEIVED];
	if (entry->sent < entry->end[SENT])
		entry->sent = entry->end[SENT];
	if (entry->life != LIFE_CLOSED)
		tell_end(sk, entry);
	sockets.delete(&sk);
	arrivals.delete(&sk);
	return 0;
}
