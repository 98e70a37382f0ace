/* Copies plain text of TLS into the ring: heads whole, bodies counted, as segments.h does it for sockets.
 *
 * Programs of uprobes may be preempted (kernel commit 8c7dcb84e3b7 "bpf: implement sleepable uprobes by chaining gps",
 * 6.0), so they have no workspace of the CPU: bytes are copied into the ring itself.
 */
#pragma once

#include "segments.h"
#include "tls_call.h"

/* A record of plain text takes room in the ring for one of these numbers of bytes. */
#define PLAIN_SMALL 512
#define PLAIN_MIDDLE 2048
#define PLAIN_LARGE 8192
#define PLAIN_HUGE 65536	/* for sessions of which user space wants more than heads */

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

/* A call to be told. */
struct plain {
	struct data_record record;
	u64 base;
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
	failed = copy_from_user(payload, count, (void *)plain->base) != 0;
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

static inline void copy_plain(struct tls_key *key, struct tls_entry *entry, struct tls_call *call, u64 begin, u64 length,
			      struct settings *to)
{
	u32 direction = call->direction & 1;
	u64 budget = entry->plain.budget[direction], count, rest, tail = 0;
	struct plain plain = {};
	u32 start = 0;

	/* HTTP/2 (RFC 9113 section 3.4): headers lie between other frames, and not one may be missed. */
	if (!begin && !call->reason && !copy_from_user(&start, sizeof(start), (void *)call->base) &&
	    start == 0x20495250 /* PRI  */)
		entry->plain.marks |= MARK_MORE;
	if (entry->plain.direction != direction ||
	    (!call->reason && budget < to->head_limit && starts_message(call->base)))
		budget = to->head_limit;
	if (entry->plain.marks & MARK_MORE && budget < to->more_limit)
		budget = to->more_limit;
	count = length < budget ? length : budget;
	if (count > PLAIN_HUGE)
		count = PLAIN_HUGE;
	if (call->reason)
		count = 0;
	entry->plain.direction = direction;
	entry->plain.budget[direction] = budget - count;

	plain.base = call->base;
	fill_header(&plain.record.header, RECORD_DATA, sizeof(plain.record) + count, name_session(key), &entry->plain);
	plain.record.header.time_ns = call->time_ns;
	plain.record.header.flags |= direction == SENT ? FLAG_SENT : 0;
	plain.record.endpoints = entry->plain.endpoints;
	plain.record.offset = begin;
	plain.record.length = length;
	plain.record.captured = count;
	rest = length - count;
	if (rest)
		plain.record.header.flags |= (call->reason ?: UNSEEN_BUDGET) << 8;
	if (rest && !call->reason) {
		plain.record.tail_length = rest < TAIL_BYTES ? rest : TAIL_BYTES;
		tail = read_tail(call, length, plain.record.tail_length);
		__builtin_memcpy(plain.record.tail, &tail, TAIL_BYTES);
	}
	if (tell_plain(&plain, count))
		return;
	count_loss(LOSS_RING_FULL_DATA, length);
	add(&entry->plain.lost[direction], length);
}
