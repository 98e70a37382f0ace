/* Who is traced: the verdict on a socket, taken once a process works at it and kept for its life. */
#pragma once

#include "emit.h"

/* How many levels below a chosen cgroup a process may be. */
#define CGROUP_DEPTH 10

static inline int below_chosen_cgroup(void)
{
	u64 node = task_cgroup_node(), id;

#pragma clang loop unroll(disable)
	for (int level = 0; level < CGROUP_DEPTH; level++) {
		if (!node)
			return 0;
		id = cgroup_node_id(node);
		if (cgroups.lookup(&id))
			return 1;
		node = cgroup_node_parent(node);
	}
	return 0;
}

/* The ends as the peer's socket has them. Loopback addresses mean the same only within one network namespace; any other
 * connection may cross from one to another on this host.
 */
static inline void ends_of_peer(struct socket_entry *entry, struct endpoints *to)
{
	struct endpoints *from = &entry->endpoints;

	__builtin_memcpy(to->local_address, from->remote_address, 16);
	__builtin_memcpy(to->remote_address, from->local_address, 16);
	to->local_port = from->remote_port;
	to->remote_port = from->local_port;
	to->network_namespace = from->remote_address[12] == 127 ? from->network_namespace : 0;
}

/* The other end of a connection of the collector's, should it be on this host, is not traced either. */
static inline void mark_own(struct socket_entry *entry)
{
	struct endpoints peer = {};
	u8 one = 1;

	entry->verdict = VERDICT_OWN;
	ends_of_peer(entry, &peer);
	own_peers.update(&peer, &one);
}

static inline void forget_own(struct socket_entry *entry)
{
	struct endpoints peer = {};

	ends_of_peer(entry, &peer);
	own_peers.delete(&peer);
}

static inline int is_peer_of_own(struct socket_entry *entry)
{
	struct endpoints ends = entry->endpoints;

	if (ends.local_address[12] != 127)
		ends.network_namespace = 0;
	return own_peers.lookup(&ends) != 0;
}

static inline int is_loopback(struct endpoints *ends)
{
	u64 *local = (u64 *)ends->local_address, *remote = (u64 *)ends->remote_address;

	return ends->remote_address[12] == 127 || (local[0] == remote[0] && local[1] == remote[1]);
}

/* Is it a connection to the collector? The client's side can tell only where both ends are surely in one place. */
static inline int is_to_own_port(struct socket_entry *entry)
{
	u32 port = entry->endpoints.local_port, *own_namespace;

	if (!(entry->flags & FLAG_SERVER)) {
		if (!is_loopback(&entry->endpoints))
			return 0;
		port = entry->endpoints.remote_port;
	}
	own_namespace = own_ports.lookup(&port);
	return own_namespace && *own_namespace == entry->endpoints.network_namespace;
}

/* What the two ends alone decide. */
static inline u8 verdict_on_ends(struct socket_entry *entry, struct settings *to)
{
	u16 local = entry->endpoints.local_port, remote = entry->endpoints.remote_port;

	if (is_peer_of_own(entry) || is_to_own_port(entry))
		return VERDICT_OWN;
	if (to->modes & MODE_PORTS && !ports.lookup(&local) && !ports.lookup(&remote))
		return VERDICT_FILTERED;
	return to->modes & (MODE_PIDS | MODE_CGROUPS) ? VERDICT_UNKNOWN : VERDICT_TRACED;
}

/* What the process at work decides. */
static inline u8 verdict_on_process(u32 pid, struct settings *to)
{
	u32 *verdict;

	if (to->modes & MODE_CGROUPS && !below_chosen_cgroup())
		return VERDICT_FILTERED;
	if (!(to->modes & MODE_PIDS))
		return VERDICT_TRACED;
	verdict = pids.lookup(&pid);
	if (verdict)
		return *verdict;
	return to->modes & MODE_ASK ? VERDICT_UNKNOWN : VERDICT_FILTERED;
}

/* A process is at work on the socket: decide what is not decided, and make the process known. */
static inline void meet_process(u64 sk, struct socket_entry *entry, struct settings *to, u32 pid, u32 tid)
{
	u32 zero = 0, *generation = exec_generation.lookup(&zero);

	entry->tid = tid;
	if (entry->pid == pid && entry->marks & MARK_ASKED && entry->verdict != VERDICT_UNKNOWN && generation &&
	    *generation == entry->exec_generation)
		return;
	if (!(entry->marks & MARK_ASKED)) {
		entry->marks |= MARK_ASKED;
		if (sk_is_of_kernel(sk))
			entry->marks |= MARK_KERNEL;
		if (pid == to->own_pid)
			mark_own(entry);
	}
	if (entry->verdict == VERDICT_UNKNOWN)
		entry->verdict = verdict_on_process(pid, to);
	entry->pid = pid;
	if (generation)
		entry->exec_generation = *generation;
	if (entry->verdict == VERDICT_OWN || entry->verdict == VERDICT_FILTERED)
		return;
	if (!tell_process(pid, tid))
		entry->exec_generation -= 1;	/* the next bytes try again */
}

/* The birth of an accepted socket, told late: only now it is known whose it is. The peer may have ended its side since. */
static inline void tell_birth(u64 sk, struct socket_entry *entry)
{
	u64 time_ns = entry->epoch_ns;
	u8 before = TCP_SYN_RECV, state = TCP_ESTABLISHED;

	entry->marks &= ~MARK_OPENED;
#pragma clang loop unroll(disable)
	for (int i = 0; i < 2; i++) {
		emit_state(sk, entry, time_ns, before, state, 0);
		if (entry->state != TCP_CLOSE_WAIT)
			return;
		note_numbers(sk, entry, TCP_CLOSE_WAIT);
		time_ns = entry->closed_ns;
		before = TCP_ESTABLISHED;
		state = TCP_CLOSE_WAIT;
	}
}

/* User space knows a boundary: the direction's next call takes it up. One that went by already is of no use. */
static inline void await_boundary(struct socket_entry *entry, u32 direction, u64 boundary)
{
	struct frames *frames = &entry->frames[direction];

	if (frames->state == FRAMES_AWAITED || frames->state == FRAMES_WALKED)
		return;
	frames->at = boundary;
	asm volatile("" : : : "memory");
	frames->state = boundary - entry->end[direction] < 1u << 31 ? FRAMES_AWAITED : FRAMES_LOST;
}

static inline void heed(struct socket_entry *entry, struct command *command)
{
	entry->marks |= command->marks & (MARK_MUTED | MARK_MORE);
	if (!(command->marks & MARK_FRAMES))
		return;
	await_boundary(entry, RECEIVED, command->boundary[RECEIVED]);
	await_boundary(entry, SENT, command->boundary[SENT]);
}

/* User space asked something of this socket. */
static inline void heed_commands(u64 sk, struct socket_entry *entry, struct settings *to)
{
	struct command *command;

	if (entry->command_generation == to->command_generation)
		return;
	entry->command_generation = to->command_generation;
	command = commands.lookup(&sk);
	if (command && command->epoch_ns == entry->epoch_ns)
		heed(entry, command);
}
