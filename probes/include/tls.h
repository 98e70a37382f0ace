/* Plain text of TLS, taken where an application hands it to its TLS library and gets it back (uprobes).
 *
 * Bytes are taken when the function returns, with the true count: a call that failed or has to be repeated counts nothing.
 * A call costs two traps, one at entry and one at return, and cannot do with fewer: the buffer is known at entry only, the
 * count at return only.
 */
#pragma once

#include "tls_copy.h"

/* `count` bytes went through the library; none, or less, where the call failed or has to be repeated. */
static inline void tell_library_call(struct pt_regs *ctx, struct tls_stack *calls, s64 count)
{
	struct tls_call *call = &calls->over;
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
	copy_plain(ctx, &key, entry, calls, begin, count, to);
}
