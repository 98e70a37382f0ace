/* Plain text of TLS, taken where an application hands it to its TLS library and gets it back (uprobes).
 *
 * Bytes are taken when the function returns, with the true count: a call that failed or has to be repeated counts nothing.
 * A call costs two traps, one at entry and one at return, and cannot do with fewer: the buffer is known at entry only, the
 * count at return only.
 */
#pragma once

#include "tls_copy.h"

/* A call of a session's handshake is over, in which the library spoke on this socket. If only since then the kernel encrypts
 * what the socket sends or receives, it is the library that asked for it, for this session: no call on the socket need be
 * seen from now on.
 */
static inline void on_handshake_over(u64 session, u64 sk)
{
	struct tls_key key = { .session = session, .pid = bpf_get_current_pid_tgid() >> 32 };
	struct tls_entry *entry = tls_sessions.lookup(&key);
	struct socket_entry *carrier;

	if (!entry || sk == NO_CARRIER || sk == SEVERAL_CARRIERS || !sk_has_kernel_tls(sk))
		return;
	carrier = sockets.lookup(&sk);
	if (!carrier)
		return;
	entry->entrusted.socket = sk;
	entry->entrusted.epoch_ns = carrier->epoch_ns;
}

/* The socket of which is proved that it carries the session; NO_CARRIER where this call proves none. */
static inline u64 proved_carrier(struct tls_entry *entry, struct tls_call *call, s64 count)
{
	u64 sk = entry->entrusted.socket;
	struct socket_entry *carrier;

	if (may_carry(call, count))
		return call->carrier;
	if (count <= 0 || sk == NO_CARRIER)
		return NO_CARRIER;
	carrier = sockets.lookup(&sk);
	return carrier && carrier->epoch_ns == entry->entrusted.epoch_ns ? sk : NO_CARRIER;
}

/* `count` bytes went through the library; none, or less, where the call failed or has to be repeated. */
static inline void tell_library_call(struct pt_regs *ctx, struct tls_stack *calls, s64 count)
{
	struct tls_call *call = &calls->over;
	u64 id = bpf_get_current_pid_tgid(), begin, sk;
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
	sk = proved_carrier(entry, call, count);
	if (sk != NO_CARRIER)
		bind_session(&key, entry, sk);
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
	copy_plain(ctx, &key, entry, calls, begin, count, to);
}
