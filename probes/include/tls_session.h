/* Sessions of TLS (SSL *, gnutls_session_t), told by their process and their pointer: how they begin and end, and which
 * socket carries them. A session's plain text counts as a stream of its own each way.
 */
#pragma once

#include "emit.h"

#define NO_CARRIER 0
#define SEVERAL_CARRIERS 1	/* no address of a socket */

struct tls_key {
	u64 session;
	u32 pid;
	u32 reserved;
};

struct tls_entry {
	struct socket_entry plain;	/* the stream, as if a socket carried it */
	struct socket_key carrier;
	u32 refused;	/* what was written as early data was, and is told */
	u32 shared;	/* how often it will be freed before it is */
	struct socket_key entrusted;	/* the socket that the kernel encrypts for it */
};

BPF_TABLE("lru_hash", struct tls_key, struct tls_entry, tls_sessions, MAX_TLS_SESSIONS);

/* Pointers of user space have 47 bits, so two processes' sessions differ; and at one time there is one such pointer. */
static inline u64 name_session(struct tls_key *key)
{
	return key->session ^ (u64)key->pid << 47;
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

/* It is to be used from the beginning again, by all who hold it. */
static inline void on_session_cleared(u64 session)
{
	struct tls_key key = { .session = session, .pid = bpf_get_current_pid_tgid() >> 32 };
	struct tls_entry *entry = tls_sessions.lookup(&key);
	u32 shared = entry ? entry->shared : 0;

	on_session_made(session);
	entry = tls_sessions.lookup(&key);
	if (entry)
		entry->shared = shared;
}

/* The application learns that the peer refused its early data (RFC 8446 section 2.3): what was written is not part of the
 * stream. Where more than early data was written by then, answers to the rest are still to come: hence FLAG_JOINED.
 */
static inline void on_early_data_refused(u64 session)
{
	struct tls_key key = { .session = session, .pid = bpf_get_current_pid_tgid() >> 32 };
	struct tls_entry *entry = tls_sessions.lookup(&key);
	struct settings *to = read_settings();
	struct socket_key entrusted;
	u32 shared;

	/* It may ask again. */
	if (!to || !entry || entry->refused)
		return;
	shared = entry->shared;
	entrusted = entry->entrusted;
	if (entry->plain.told)
		tell_session(&key, entry, TLS_REFUSED);
	begin_session(&key, FLAG_JOINED, to);
	entry = tls_sessions.lookup(&key);
	if (!entry)
		return;
	entry->refused = 1;
	entry->shared = shared;
	entry->entrusted = entrusted;
}

/* Somebody else holds it too, and will free it. */
static inline void on_session_shared(u64 session)
{
	struct tls_key key = { .session = session, .pid = bpf_get_current_pid_tgid() >> 32 };
	struct tls_entry *entry = tls_sessions.lookup(&key);

	if (entry)
		entry->shared += 1;
}

static inline void on_session_freed(u64 session)
{
	struct tls_key key = { .session = session, .pid = bpf_get_current_pid_tgid() >> 32 };
	struct tls_entry *entry = tls_sessions.lookup(&key);

	if (entry && entry->shared)
		entry->shared -= 1;
	else if (entry)
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
