/* The life of a socket in the table: birth, first sight, end. */
#pragma once

#include "arrivals.h"
#include "filter.h"

/* Without the collector's pid the settings were not written yet, and nothing is traced. */
static inline struct settings *read_settings(void)
{
	u32 zero = 0;
	struct settings *to = settings.lookup(&zero);

	return to && to->own_pid ? to : 0;
}

/* A socket whose birth was missed: its streams are counted from here. `length` bytes just went in `direction`. */
static inline struct socket_entry *join(u64 sk, u32 direction, u32 length, struct settings *to)
{
	struct socket_entry entry = {};
	u8 state = sk_state(sk);
	u32 fin = state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING || state == TCP_LAST_ACK;

	entry.epoch_ns = bpf_ktime_get_ns();
	entry.flags = FLAG_JOINED | (sk_was_accepted(sk) ? FLAG_SERVER : FLAG_CLIENT);
	entry.state = state;
	entry.old_state = state;
	entry.direction = NO_DIRECTION;
	entry.command_generation = to->command_generation;
	entry.base[SENT] = tcp_write_sequence(sk) - fin - (direction == SENT ? length : 0);
	entry.base[RECEIVED] = tcp_copied_sequence(sk) - (direction == RECEIVED ? length : 0);
	sk_endpoints(sk, &entry.endpoints);
	entry.verdict = verdict_on_ends(&entry, to);
	/* Two threads may meet here; the first one's entry stands. */
	sockets.insert(&sk, &entry);
	if (entry.flags & FLAG_SERVER && is_of_interest(&entry))
		await_arrivals(sk);
	return sockets.lookup(&sk);
}

/* Tells the end of a life; user space finds in `untold` what the ring has no room for. */
static inline void tell_end(u64 sk, struct socket_entry *entry)
{
	struct socket_key key = { .socket = sk, .epoch_ns = entry->epoch_ns };

	if (entry->verdict == VERDICT_OWN)
		forget_own(entry);
	entry->life = LIFE_CLOSED;
	/* Nothing follows that could notice what went by no hook: bytes spliced from the socket as its last, and all that the
	 * kernel encrypted or decrypted itself.
	 */
	if (entry->told && sk_has_kernel_tls(sk)) {
		advance_to(sk, entry, SENT, entry->sent, UNSEEN_KERNEL_TLS);
		advance_to(sk, entry, RECEIVED, entry->received, UNSEEN_KERNEL_TLS);
	} else if (entry->told) {
		advance_to(sk, entry, RECEIVED, entry->received, UNSEEN_SENDFILE);
	}
	if (entry->told && !emit_state(sk, entry, entry->closed_ns, entry->old_state, TCP_CLOSE, 0))
		untold.update(&key, entry);
}
