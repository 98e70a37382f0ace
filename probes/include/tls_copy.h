/* Copies plain text of TLS into the ring: heads whole, bodies counted, as segments.h does it for sockets, and frames.h where
 * it is HTTP/2.
 *
 * Programs of uprobes may be preempted (kernel commit 8c7dcb84e3b7 "bpf: implement sleepable uprobes by chaining gps",
 * 6.0), so they have no workspace of the CPU: bytes are copied into the ring itself.
 */
#pragma once

#include "frames.h"
#include "tls_call.h"

/* A record of plain text takes room in the ring for one of these numbers of bytes. */
#define PLAIN_SMALL 512
#define PLAIN_MIDDLE 2048
#define PLAIN_LARGE 8192
#define PLAIN_HUGE 65536	/* for sessions of which user space wants more than heads */

/* Frames of HTTP/2 walked in one run of the program, which goes on by a tail call: WALK_RUNS times. */
#define PLAIN_STEPS 64

/* Bytes to be copied after which a record is made, before the next frame adds to them. */
#define PLAIN_DUE (PLAIN_HUGE - FRAME_HEADER - FRAME_LIMIT)

BPF_PROG_ARRAY(tls_telling, 1);	/* the program that walks frames */

struct small_piece {
	struct data_record record;
	u8 payload[PLAIN_SMALL];
};

struct middle_piece {
	struct data_record record;
	u8 payload[PLAIN_MIDDLE];
};

struct large_piece {
	struct data_record record;
	u8 payload[PLAIN_LARGE];
};

struct huge_piece {
	struct data_record record;
	u8 payload[PLAIN_HUGE];
};

/* The last bytes of a call of which not all is copied, for the record's tail. */
static inline u64 read_tail(struct tls_call *call, u64 length, u64 tail_length)
{
	u64 tail = 0;

	asm volatile("" : "+r"(tail_length));
	if (tail_length > TAIL_BYTES)
		tail_length = TAIL_BYTES;
	copy_from_user(&tail, tail_length, (void *)(call->base + length - tail_length));
	return tail;
}

/* Copies `count` bytes, at most `room`, and tells the call. */
static inline void fill_plain(struct data_record *record, u8 *payload, u64 room, u64 count, struct plain *plain)
{
	u64 failed;

	asm volatile("" : "+r"(count));
	if (count > room)
		count = room;
	failed = copy_from_user(payload, count, (void *)(plain->base + plain->told)) != 0;
	*record = plain->record;
	if (failed) {
		record->captured = 0;
		record->tail_length = 0;
		record->header.size = sizeof(*record);
		record->header.flags = (record->header.flags & 0xff) | UNSEEN_FAULT << 8;
	}
	events.ringbuf_submit(record, DO_NOT_WAKE);
}

/* The room is reserved in one of four sizes, for the kernel wants to know it beforehand. Returns 0 when there is none. */
static inline int tell_plain(struct plain *plain, u64 count)
{
	struct small_piece *small;
	struct middle_piece *middle;
	struct large_piece *large;
	struct huge_piece *huge;

	if (count <= PLAIN_SMALL) {
		small = events.ringbuf_reserve(sizeof(*small));
		if (!small)
			return 0;
		fill_plain(&small->record, small->payload, PLAIN_SMALL, count, plain);
	} else if (count <= PLAIN_MIDDLE) {
		middle = events.ringbuf_reserve(sizeof(*middle));
		if (!middle)
			return 0;
		fill_plain(&middle->record, middle->payload, PLAIN_MIDDLE, count, plain);
	} else if (count <= PLAIN_LARGE) {
		large = events.ringbuf_reserve(sizeof(*large));
		if (!large)
			return 0;
		fill_plain(&large->record, large->payload, PLAIN_LARGE, count, plain);
	} else {
		huge = events.ringbuf_reserve(sizeof(*huge));
		if (!huge)
			return 0;
		fill_plain(&huge->record, huge->payload, PLAIN_HUGE, count, plain);
	}
	return 1;
}

/* Makes a record of what was dealt with since the last one. */
static inline void tell_part(struct plain *plain, struct tls_entry *entry)
{
	u32 direction = plain->record.header.flags & FLAG_SENT ? SENT : RECEIVED;
	u64 length = plain->position - plain->told, count = length - plain->skipped;

	plain->record.header.size = sizeof(plain->record) + count;
	plain->record.header.flags &= 0xff & ~FLAG_UNFINISHED;
	if (plain->skipped)
		plain->record.header.flags |= (plain->reason ?: UNSEEN_BUDGET) << 8;
	if (plain->position < plain->length)
		plain->record.header.flags |= FLAG_UNFINISHED;
	plain->record.offset = plain->begin + plain->told;
	plain->record.length = length;
	plain->record.captured = count;
	if (!tell_plain(plain, count)) {
		count_loss(LOSS_RING_FULL_DATA, length);
		add(&entry->plain.lost[direction], length);
	}
	plain->record.header.flags |= FLAG_CONTINUED;
	plain->told = plain->position;
	plain->skipped = 0;
}

/* The first bytes of a direction: is it HTTP/2? Who is the client may not be known yet. A preface that comes in pieces is
 * left to user space.
 */
static inline void look_for_plain_frames(struct tls_entry *entry, struct frames *frames, u64 base, u64 length)
{
	u64 start[3] = {}, count = length;

	asm volatile("" : "+r"(count));
	if (count > sizeof(start))
		count = sizeof(start);
	if (copy_from_user(start, count, (void *)base))
		return;
	/* What comes in pieces is still worth to be copied (RFC 9113 section 3.4): not one header may be missed. */
	if ((u32)start[0] == 0x20495250 /* PRI  */)
		entry->plain.marks |= MARK_MORE;
	if (is_preface(start))
		frames->left = PREFACE_BYTES;
	else if (count >= FRAME_HEADER && is_first_settings(start))
		frames->left = 0;
	else
		return;
	frames->copy = frames->left;
	frames->state = FRAMES_WALKED;
}

/* One step of the walk: a frame's header, or a byte of one that is cut, what is to be copied of its payload, and what is
 * to be skipped.
 */
static inline void step_over_frame(struct plain *plain, struct frames *frames)
{
	u64 rest = plain->length - plain->position, count, header = 0;

	if (frames->gathered || !frames->left) {
		/* Of the stream's number, which ends it, nothing is needed. */
		count = frames->gathered || rest < FRAME_HEADER ? 1 : sizeof(header);
		if (copy_from_user(&header, count, (void *)(plain->base + plain->position))) {
			frames->state = FRAMES_LOST;
			return;
		}
		if (count == 1) {
			plain->position += 1;
			gather(frames, header);
			if (frames->gathered == FRAME_HEADER)
				judge_frame(frames);
			return;
		}
		frames->left = (header & 0xff) << 16 | (header & 0xff00) | (header >> 16 & 0xff);
		frames->type = header >> 24;
		frames->flags = header >> 32;
		judge_frame(frames);
		plain->position += FRAME_HEADER;
		rest -= FRAME_HEADER;
	}
	count = frames->copy < rest ? frames->copy : rest;
	frames->copy -= count;
	frames->left -= count;
	plain->position += count;
	rest -= count;
	if (frames->copy)
		return;
	count = frames->left < rest ? frames->left : rest;
	frames->left -= count;
	plain->position += count;
	plain->skipped = count;
}

/* Frame headers, and the payloads that say what others mean, are copied whole; of DATA the first bytes. Returns 1 when the
 * call is told. All state lies with the thread, not in registers: so the verifier sees the same few registers in every step.
 */
static inline int walk_plain(struct plain *plain, struct tls_entry *entry, struct frames *frames)
{
#pragma clang loop unroll(disable)
	for (int step = 0; step < PLAIN_STEPS; step++) {
		if (frames->state == FRAMES_LOST || plain->runs > WALK_RUNS) {
			pass_unseen(frames, plain->length - plain->position);
			plain->skipped += plain->length - plain->position;
			plain->position = plain->length;
			plain->reason = UNSEEN_SEGMENTS;
		}
		if (plain->skipped || plain->position >= plain->length || plain->position - plain->told > PLAIN_DUE) {
			tell_part(plain, entry);
			if (plain->position >= plain->length)
				return 1;
		}
		step_over_frame(plain, frames);
	}
	return 0;
}

/* Walks the call that is over, and goes on with itself where it has more frames than one run walks. */
static inline void tell_plain_frames(struct pt_regs *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	struct tls_stack *calls = tls_calls.lookup(&id);
	struct tls_key key = { .pid = id >> 32 };
	struct tls_entry *entry;
	struct frames *frames;

	if (!calls)
		return;
	key.session = calls->over.session;
	entry = tls_sessions.lookup(&key);
	if (!entry)
		return;
	frames = &entry->plain.frames[calls->over.direction & 1];
	calls->plain.runs += 1;
	if (!walk_plain(&calls->plain, entry, frames))
		tls_telling.call(ctx, 0);
	frames->at = calls->plain.begin + calls->plain.length;
}

/* Heads whole, bodies counted. */
static inline void cut_plain(struct plain *plain, struct tls_entry *entry, struct tls_call *call, struct settings *to)
{
	u32 direction = call->direction & 1;
	u64 budget = entry->plain.budget[direction], count, tail;

	if (entry->plain.direction != direction ||
	    (!call->reason && budget < to->head_limit && starts_message(call->base)))
		budget = to->head_limit;
	if ((entry->plain.marks & MARK_MORE || entry->plain.frames[direction].state == FRAMES_LOST) &&
	    budget < to->more_limit)
		budget = to->more_limit;
	count = plain->length < budget ? plain->length : budget;
	if (count > PLAIN_HUGE)
		count = PLAIN_HUGE;
	if (call->reason)
		count = 0;
	entry->plain.direction = direction;
	entry->plain.budget[direction] = budget - count;
	plain->skipped = plain->length - count;
	plain->position = plain->length;
	if (plain->skipped && !call->reason) {
		plain->record.tail_length = plain->skipped < TAIL_BYTES ? plain->skipped : TAIL_BYTES;
		tail = read_tail(call, plain->length, plain->record.tail_length);
		__builtin_memcpy(plain->record.tail, &tail, TAIL_BYTES);
	}
	tell_part(plain, entry);
}

static inline void copy_plain(struct pt_regs *ctx, struct tls_key *key, struct tls_entry *entry, struct tls_stack *calls,
			      u64 begin, u64 length, struct settings *to)
{
	struct tls_call *call = &calls->over;
	u32 direction = call->direction & 1;
	struct frames *frames = &entry->plain.frames[direction];
	struct plain *plain = &calls->plain;

	fill_header(&plain->record.header, RECORD_DATA, 0, name_session(key), &entry->plain);
	plain->record.header.time_ns = call->time_ns;
	if (direction == SENT)
		plain->record.header.flags |= FLAG_SENT;
	else if ((u32)length == (u32)call->room)
		plain->record.header.flags |= FLAG_FILLED;
	plain->record.endpoints = entry->plain.endpoints;
	plain->record.tail_length = 0;
	__builtin_memset(plain->record.tail, 0, TAIL_BYTES);
	plain->base = call->base;
	plain->begin = begin;
	plain->length = length;
	plain->position = 0;
	plain->told = 0;
	plain->skipped = 0;
	plain->reason = call->reason;
	plain->runs = 0;
	if (!begin && !call->reason && !(entry->plain.flags & FLAG_JOINED))
		look_for_plain_frames(entry, frames, call->base, length);
	else if (frames->state == FRAMES_AWAITED || frames->state == FRAMES_WALKED)
		resume_frames(frames, begin);
	if (frames->state == FRAMES_WALKED && !call->reason) {
		tls_telling.call(ctx, 0);
		frames->state = FRAMES_LOST;	/* there is no such program */
	} else if (frames->state == FRAMES_WALKED) {
		pass_unseen(frames, length);
		frames->at = begin + length;
	}
	cut_plain(plain, entry, call, to);
}
