/* Copies what one call sent or received out of its segments: heads whole, bodies counted.
 *
 * A record holds a copied prefix of its bytes; what was not copied lies behind it, its last bytes in `tail`. Segments that
 * are copied whole join in one record. Where a segment was cut and a later one starts a message, a further record begins.
 * All state lies in the workspace, not in registers: so the verifier sees the same few registers in every step.
 */
#pragma once

#include "emit.h"

/* Could a message of HTTP/1 start here? Four bytes decide; a wrong yes costs some copying, nothing else. */
static inline int starts_message(u64 address)
{
	u32 start = 0;

	if (copy_from_user(&start, sizeof(start), (void *)address))
		return 0;
	switch (start) {
	case 0x50545448:	/* HTTP */
	case 0x20544547:	/* GET  */
	case 0x54534f50:	/* POST */
	case 0x20545550:	/* PUT  */
	case 0x44414548:	/* HEAD */
	case 0x454c4544:	/* DELE */
	case 0x4954504f:	/* OPTI */
	case 0x43544150:	/* PATC */
	case 0x4e4e4f43:	/* CONN */
	case 0x43415254:	/* TRAC */
		return 1;
	}
	return 0;
}

/* Makes a record of the bytes told since the last one. */
static inline void flush(struct work *work, struct socket_entry *entry, int with_tail)
{
	struct data_record *record = &work->record;
	u64 length = work->position - work->told;
	u64 filled = work->filled;
	u64 tail_length = work->skipped < TAIL_BYTES ? work->skipped : TAIL_BYTES;
	u64 tail, size;
	u32 direction;

	if (!length)
		return;
	record->offset = work->begin + work->told;
	record->length = length;
	record->captured = filled;
	record->header.flags &= 0xff;
	if (work->skipped)
		record->header.flags |= work->reason << 8;
	tail = work->skipped ? work->tail >> (8 * (TAIL_BYTES - tail_length) & 63) : 0;
	__builtin_memcpy(record->tail, &tail, TAIL_BYTES);
	record->tail_length = with_tail && work->reason == UNSEEN_BUDGET ? tail_length : 0;
	if (!record->tail_length)
		__builtin_memset(record->tail, 0, TAIL_BYTES);
	asm volatile("" : "+r"(filled));
	if (filled > CHUNK)
		filled = CHUNK;
	size = sizeof(*record) + filled;
	record->header.size = size;
	work->written += size;
	if (events.ringbuf_output(record, size, work->written > work->wake_bytes ? WAKE : DO_NOT_WAKE)) {
		count_loss(LOSS_RING_FULL_DATA, length);
		direction = record->header.flags & FLAG_SENT ? SENT : RECEIVED;
		add(&entry->lost[direction], length);
	}
	if (work->written > work->wake_bytes)
		work->written = 0;
	work->told = work->position;
	work->filled = 0;
	work->skipped = 0;
	work->tail = 0;
	work->reason = UNSEEN_NONE;
	work->due = 0;
	record->waited_all = 0;
	record->waited_us = 0;
	record->header.flags |= FLAG_CONTINUED;
}

/* Leaves the rest of the call uncopied. */
static inline void give_up(struct work *work, u32 reason)
{
	work->skipped += work->length - work->position;
	work->position = work->length;
	work->reason = reason;
	work->left = 0;
}

static inline void lay_segment(struct work *work, u64 base, u64 length)
{
	u64 rest = work->length - work->position;

	work->base = base;
	work->left = length < rest ? length : rest;
}

static inline void take_segment(struct work *work, u64 base, u64 length)
{
	lay_segment(work, base, length);
	if (work->budget < work->head_limit && starts_message(base)) {
		work->due = work->skipped != 0;
		work->budget = work->head_limit;
	}
}

static inline long read_segment(u64 vector, struct iovec *segment)
{
#ifdef WITH_KPROBES
	return copy_from_kernel(segment, sizeof(*segment), (void *)vector);
#else
	return copy_from_user(segment, sizeof(*segment), (void *)vector);
#endif
}

/* Takes the next segment from the vector; 0, or why that is not possible (enum unseen). */
static inline u32 fetch_segment(struct work *work, struct iovec *segment)
{
	if (!work->segments)
		return UNSEEN_SEGMENTS;
	if (read_segment(work->vector, segment))
		return UNSEEN_FAULT;
	work->vector += sizeof(*segment);
	work->segments -= 1;
	return UNSEEN_NONE;
}

static inline void next_segment(struct work *work)
{
	struct iovec segment = {};
	u32 reason = fetch_segment(work, &segment);

	if (reason)
		give_up(work, reason);
	else
		take_segment(work, segment.base, segment.length);
}

/* Skips what is left of the segment, keeping its last bytes. */
static inline void skip_segment(struct work *work)
{
	u64 count = work->left < TAIL_BYTES ? work->left : TAIL_BYTES;
	u64 last = 0, from = work->base + work->left - count;

	asm volatile("" : "+r"(count));
	if (count > TAIL_BYTES)
		count = TAIL_BYTES;
	copy_from_user(&last, count, (void *)from);
	if (count == TAIL_BYTES)
		work->tail = last;
	else if (count)
		work->tail = work->tail >> (8 * count & 63) | last << (8 * (TAIL_BYTES - count) & 63);
	work->reason = UNSEEN_BUDGET;
	work->skipped += work->left;
	work->position += work->left;
	work->left = 0;
}

static inline void copy_segment(struct work *work)
{
	u64 at = work->filled, count = work->left;

	if (at >= CHUNK) {
		work->due = 1;
		return;
	}
	if (count > work->budget)
		count = work->budget;
	if (count > CHUNK - at)
		count = CHUNK - at;
	asm volatile("" : "+r"(at));
	asm volatile("" : "+r"(count));
	if (at >= CHUNK || count > CHUNK)
		return;
	if (copy_from_user(work->payload + at, count, (void *)work->base)) {
		give_up(work, UNSEEN_FAULT);
		return;
	}
	work->filled += count;
	work->position += count;
	work->base += count;
	work->left -= count;
	work->budget -= count;
}

/* Goes on for some steps; 1 when the call is told. Each helper that writes or copies stands here once: the compiler inlines
 * all there is.
 */
static inline int walk(struct work *work, struct socket_entry *entry)
{
#pragma clang loop unroll(disable)
	for (int step = 0; step < WALK_STEPS; step++) {
		if (work->due || work->position >= work->length) {
			flush(work, entry, 1);
			if (work->position >= work->length)
				return 1;
		}
		if (!work->left) {
			next_segment(work);
			if (work->due || !work->left)
				continue;
		}
		if (work->skipped || !work->budget)
			skip_segment(work);
		else
			copy_segment(work);
	}
	return 0;
}
