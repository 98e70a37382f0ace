/* One call that sent or received bytes, from the socket's account to the records. Both tiers end here. */
#pragma once

#include "life.h"
#include "frames.h"

#define MSG_OOB 0x1
#define MSG_PEEK 0x2
#define MSG_TRUNC 0x20
#define MSG_ERRQUEUE 0x2000

static inline struct work *workspace(void)
{
	u32 zero = 0;

	return works.lookup(&zero);
}

/* Does the call go through the walk of frames? Then the workspace has it. */
static inline void enter_frames(struct call *call, struct work *work, struct socket_entry *entry, struct settings *to)
{
	u32 direction = call->direction & 1;
	struct frames *frames = &entry->frames[direction];

	if (frames->state == FRAMES_OFF) {
		if (call->reason || entry->flags & FLAG_JOINED)
			return;
		look_for_frames(call, entry, direction);
	}
	if (frames->state == FRAMES_OFF)
		return;
	if (frames->state != FRAMES_LOST)
		resume_frames(frames, work->begin);
	if (frames->state == FRAMES_WALKED && call->reason)
		pass_unseen(frames, call->length);
	else if (frames->state == FRAMES_WALKED)
		work->frames = *frames;
	else if (work->budget < to->more_limit)
		work->budget = to->more_limit;
}

/* Accounts for the call in the socket's entry and lays out the workspace. Returns the entry when there is something to
 * tell, 0 when counting was all.
 */
static inline struct socket_entry *account(struct call *call, struct work *work, struct settings *to)
{
	u64 sk = call->sk, id = bpf_get_current_pid_tgid();
	u32 direction = call->direction & 1, pid = id >> 32, tid = id;
	struct socket_entry *entry = sockets.lookup(&sk);
	u32 sequence;
	u64 begin, end;
	s64 moved;

	if (!entry) {
		if (!sk_is_tcp(sk))
			return 0;
		entry = join(sk, direction, call->length, to);
		if (!entry) {
			count_loss(LOSS_TABLE_FULL, call->length);
			return 0;
		}
	}
	heed_commands(sk, entry, to);
	/* A client's handshake ends before its peer is known for the collector's: the first bytes are the time to look. */
	if (entry->direction == NO_DIRECTION && is_peer_of_own(entry))
		entry->verdict = VERDICT_OWN;
	meet_process(sk, entry, to, pid, tid);
	if (entry->marks & MARK_OPENED && entry->verdict != VERDICT_FILTERED && entry->verdict != VERDICT_OWN)
		tell_birth(sk, entry);

	if (entry->direction == NO_DIRECTION && entry->flags & FLAG_JOINED && sk_has_upper_layer(sk)) {
		/* The stream was to be counted from this call on, of which it cannot be said whether its buffers have the
		 * stream's bytes or plain text: so it begins behind it.
		 */
		entry->direction = direction;
		entry->base[direction] += call->length;
		return 0;
	}

	sequence = direction == SENT ? tcp_write_sequence(sk) : tcp_raw_copied_sequence(sk);
	moved = offset_of(entry, direction, sequence) - entry->end[direction];
	if (direction == RECEIVED && moved != (s64)call->length)
		moved = offset_of(entry, direction, tcp_copied_sequence(sk)) - entry->end[direction];
	if (entry->state == TCP_SYN_SENT || (direction == SENT && !entry->end[SENT] && moved < (s64)call->length)) {
		/* TCP Fast Open (RFC 7413): the first bytes went with the SYN, before the base was noted. */
		entry->base[direction] = sequence - call->length - (u32)entry->end[direction];
		moved = call->length;
	}
	if (entry->direction != direction) {
		entry->direction = direction;
		entry->budget[direction] = to->head_limit;
	}
	end = entry->end[direction] + moved;
	begin = end - call->length;
	if (moved != (s64)call->length && sk_has_upper_layer(sk)) {
		/* The call's length is that of the plain text; the stream's, always another, is what went by. */
		if (moved <= 0)
			return 0;
		begin = entry->end[direction];
		call->length = moved;
		call->reason = sk_has_kernel_tls(sk) ? UNSEEN_KERNEL_TLS : UNSEEN_SYSCALL;
	}
	if (entry->verdict == VERDICT_OWN || entry->verdict == VERDICT_FILTERED) {
		if (entry->told)
			add(&entry->muted[direction], call->length);
		count_loss(entry->verdict == VERDICT_OWN ? LOSS_OWN : LOSS_FILTERED, call->length);
	} else if (moved > (s64)call->length) {
		advance_to(sk, entry, direction, begin, UNSEEN_SENDFILE);
	}
	entry->busy[direction] = 1;
	if (moved > 0)
		entry->end[direction] = end;
	if (entry->verdict == VERDICT_OWN || entry->verdict == VERDICT_FILTERED) {
		entry->busy[direction] = 0;
		return 0;
	}
	entry->told = 1;
	if (entry->marks & MARK_MUTED) {
		add(&entry->muted[direction], call->length);
		count_loss(LOSS_MUTED, call->length);
		entry->busy[direction] = 0;
		return 0;
	}
	if (entry->marks & MARK_KERNEL && call->reason != UNSEEN_SENDFILE)
		call->reason = UNSEEN_SYSCALL;

	fill_header(&work->record.header, RECORD_DATA, 0, sk, entry);
	if (direction == SENT)
		work->record.header.flags |= FLAG_SENT;
	work->record.header.time_ns = call->time_ns;
	work->record.endpoints = entry->endpoints;
	work->record.waited_all = 0;
	work->record.waited_us = 0;
	if (direction == RECEIVED && entry->flags & FLAG_SERVER)
		tell_wait(&work->record, sk, entry->base[RECEIVED] + (u32)begin, call->length, call->time_ns);
	work->begin = begin;
	work->length = call->length;
	work->position = 0;
	work->told = 0;
	work->filled = 0;
	work->skipped = 0;
	work->tail = 0;
	work->left = 0;
	work->reason = UNSEEN_NONE;
	work->due = 0;
	work->wake_bytes = to->wake_bytes;
	work->head_limit = to->head_limit;
	work->budget = entry->budget[direction];
	if (entry->marks & MARK_MORE && work->budget < to->more_limit)
		work->budget = to->more_limit;
	work->vector = call->vector;
	work->segments = call->segments;
	work->frames.state = FRAMES_OFF;
	if (!begin || entry->frames[direction].state)
		enter_frames(call, work, entry, to);
	if (call->reason)
		give_up(work, call->reason);
	else if (call->left)
		take_segment(work, call->base, call->left);
	return entry;
}

/* Hands the call in the workspace to tell_call(). Hooks end here: the program behind the tail call is loaded once. */
static inline void pass_on(void *ctx, struct work *work)
{
	work->runs = 0;
	telling.call(ctx, 0);
}

/* Tells the call in the workspace, and goes on with itself where it has more segments than one run walks. */
static inline void tell_call(void *ctx)
{
	struct settings *to = read_settings();
	struct work *work = workspace();
	struct socket_entry *entry;
	u64 sk;

	if (!to || !work)
		return;
	if (!work->runs) {
		entry = account(&work->call, work, to);
		if (entry && work->frames.state == FRAMES_WALKED) {
			work->runs = 1;
			telling.call(ctx, TELL_FRAMES);
		}
	} else {
		sk = work->call.sk;
		entry = sockets.lookup(&sk);
	}
	if (!entry)
		return;
	work->runs += 1;
	if (work->runs > WALK_RUNS)
		give_up(work, UNSEEN_SEGMENTS);
	if (!walk(work, entry))
		telling.call(ctx, 0);
	entry->budget[work->call.direction & 1] = work->budget;
	entry->busy[work->call.direction & 1] = 0;
}

/* The same where the call's frames are walked. */
static inline void tell_frames(void *ctx)
{
	struct work *work = workspace();
	struct socket_entry *entry;
	u32 direction;
	u64 sk;

	if (!work)
		return;
	sk = work->call.sk;
	entry = sockets.lookup(&sk);
	if (!entry)
		return;
	work->runs += 1;
	if (work->runs > WALK_RUNS)
		give_up_frames(work, UNSEEN_SEGMENTS);
	if (!walk_frames(work, entry))
		telling.call(ctx, TELL_FRAMES);
	direction = work->call.direction & 1;
	work->frames.at = work->begin + work->length;
	entry->frames[direction] = work->frames;
	entry->busy[direction] = 0;
}
