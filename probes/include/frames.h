/* Walks the frames of HTTP/2 (RFC 9113 section 4.1). Frame headers, and the payloads that say what others mean (header
 * blocks, settings, ends of streams), are copied whole; of DATA the first bytes, the others are counted.
 *
 * A walk begins only where a frame is known to: behind the client's preface, at the server's first SETTINGS, or at an offset
 * that user space names. It goes over bytes that were not seen only where their number leaves no doubt: within one frame.
 * Otherwise the place is lost, and the calls of that direction are copied again, for user space to find it.
 *
 * So what is copied behind bytes left out as UNSEEN_BUDGET always begins with a frame's header.
 */
#pragma once

#include "segments.h"

#define FRAME_HEADER 9
#define PREFACE_BYTES 24

/* Bytes copied of a payload: as many as a peer sends that was not allowed more (SETTINGS_MAX_FRAME_SIZE). */
#define FRAME_LIMIT 16384

/* DATA up to this length is copied whole: a further record for what follows would cost more. Of more, only what tells
 * of a gRPC message, and the length of the padding in front of it.
 */
#define SMALL_DATA 512
#define MESSAGE_PREFIX 5
#define PADDING_LENGTH 1

#define LOOK_AHEAD 512	/* bytes read beyond those that are to be copied anyway */

#define FRAME_DATA 0
#define FRAME_SETTINGS 4
#define FRAME_CONTINUATION 9	/* types beyond it are extensions, and count as DATA */
#define PADDED 0x8

/* "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" (section 3.4) */
static inline int is_preface(u64 *start)
{
	return start[0] == 0x5448202a20495250 && start[1] == 0x0a0d302e322f5054 && start[2] == 0x0a0d0a0d4d530a0d;
}

/* Does a server begin so, even before it has read the preface? SETTINGS, no acknowledgement, of less than 256 bytes. */
static inline int is_first_settings(u64 *start)
{
	return (start[0] & ~0xff0000ull) == FRAME_SETTINGS << 24 && !(start[1] & 0xff);
}

/* A direction's first bytes: is it HTTP/2? A preface that comes in pieces is left to user space. */
static inline void look_for_frames(struct call *call, struct socket_entry *entry, u32 direction)
{
	struct frames *frames = &entry->frames[direction];
	struct iovec first = { .base = call->base, .length = call->left };
	int from_client = (direction == SENT) == !!(entry->flags & FLAG_CLIENT);
	u64 start[3] = {}, count;

	if (!call->left && (!call->segments || read_segment(call->vector, &first)))
		return;
	count = first.length < call->length ? first.length : call->length;
	if (count > sizeof(start))
		count = sizeof(start);
	asm volatile("" : "+r"(count));
	if (count > sizeof(start) || copy_from_user(start, count, (void *)first.base))
		return;
	if (from_client ? !is_preface(start) : count < FRAME_HEADER || !is_first_settings(start))
		return;
	frames->left = from_client ? PREFACE_BYTES : 0;
	frames->copy = frames->left;
	frames->state = FRAMES_WALKED;
}

/* Goes over bytes that were not seen. */
static inline void pass_unseen(struct frames *frames, u64 count)
{
	if (frames->gathered || count > frames->left) {
		frames->state = FRAMES_LOST;
		return;
	}
	frames->at += count;
	frames->left -= count;
	frames->copy = frames->copy > count ? frames->copy - count : 0;
}

/* Takes the walk up where the last call left it: what went by in between was not seen. Or begins it, with what is in front
 * of the first frame.
 */
static inline void resume_frames(struct frames *frames, u32 begin)
{
	s32 distance = frames->at - begin;

	if (frames->state == FRAMES_AWAITED && distance >= 0) {
		frames->at = begin;
		frames->left = distance;
		frames->copy = distance < FRAME_LIMIT ? distance : FRAME_LIMIT;
		frames->gathered = 0;
		frames->state = FRAMES_WALKED;
	} else if (frames->state == FRAMES_AWAITED || distance > 0) {
		frames->state = FRAMES_LOST;
	} else if (distance < 0) {
		pass_unseen(frames, -distance);
	}
}

/* Leaves the rest of the call uncopied. */
static inline void give_up_frames(struct work *work, u32 reason)
{
	pass_unseen(&work->frames, work->length - work->position);
	give_up(work, reason);
}

static inline void lay_next_segment(struct work *work)
{
	struct iovec segment = {};
	u32 reason = fetch_segment(work, &segment);

	work->ahead = 0;
	if (reason)
		give_up_frames(work, reason);
	else
		lay_segment(work, segment.base, segment.length);
}

static inline int is_skipping(struct frames *frames)
{
	return frames->left && !frames->copy && !frames->gathered;
}

static inline void skip_payload(struct work *work)
{
	u64 count = work->frames.left < work->left ? work->frames.left : work->left;

	work->frames.left -= count;
	work->skipped += count;
	work->reason = UNSEEN_BUDGET;
	work->position += count;
	work->base += count;
	work->left -= count;
	work->ahead = 0;
}

static inline void look_ahead(struct work *work)
{
	u64 at = work->filled, count = work->frames.copy + LOOK_AHEAD;

	if (count > work->left)
		count = work->left;
	if (count > CHUNK - at)
		count = CHUNK - at;
	asm volatile("" : "+r"(at));
	asm volatile("" : "+r"(count));
	if (at >= CHUNK || count > CHUNK)
		return;
	if (copy_from_user(work->payload + at, count, (void *)work->base))
		give_up_frames(work, UNSEEN_FAULT);
	else
		work->ahead = count;
}

/* Bytes that were looked at are to be copied. */
static inline void take(struct work *work, u64 count)
{
	work->filled += count;
	work->ahead -= count;
	work->position += count;
	work->base += count;
	work->left -= count;
}

static inline void gather(struct frames *frames, u8 byte)
{
	if (frames->gathered < 3)
		frames->left = frames->left << 8 | byte;
	else if (frames->gathered == 3)
		frames->type = byte;
	else if (frames->gathered == 4)
		frames->flags = byte;
	frames->gathered += 1;
}

/* The header is whole: how much of the payload is to be copied? */
static inline void judge_frame(struct frames *frames)
{
	frames->gathered = 0;
	frames->copy = frames->left < FRAME_LIMIT ? frames->left : FRAME_LIMIT;
	if ((frames->type == FRAME_DATA || frames->type > FRAME_CONTINUATION) && frames->left > SMALL_DATA)
		frames->copy = MESSAGE_PREFIX + (frames->flags & PADDED ? PADDING_LENGTH : 0);
}

/* Takes what is to be copied of a payload, and the header behind it. One that is cut by the end of a segment or a call is
 * gathered byte by byte.
 */
static inline void take_frame(struct work *work)
{
	struct frames *frames = &work->frames;
	u64 count = frames->copy < work->ahead ? frames->copy : work->ahead, at;
	u8 *next;

	take(work, count);
	frames->copy -= count;
	if (count)
		frames->left -= count;
	at = work->filled;
	asm volatile("" : "+r"(at));
	if (at > CHUNK - FRAME_HEADER || !work->ahead)
		return;
	next = work->payload + at;
	if (!frames->gathered) {
		if (frames->left || (work->ahead < FRAME_HEADER && work->ahead < work->left))
			return;
		if (work->ahead >= FRAME_HEADER) {
			frames->left = next[0] << 16 | next[1] << 8 | next[2];
			frames->type = next[3];
			frames->flags = next[4];
			frames->gathered = FRAME_HEADER;
			take(work, FRAME_HEADER);
		}
	}
	if (frames->gathered < FRAME_HEADER) {
		gather(frames, next[0]);
		take(work, 1);
	}
	if (frames->gathered == FRAME_HEADER)
		judge_frame(frames);
}

/* Goes on for some steps; 1 when the call is told. */
static inline int walk_frames(struct work *work, struct socket_entry *entry)
{
#pragma clang loop unroll(disable)
	for (int step = 0; step < FRAME_STEPS; step++) {
		if (work->due || work->position >= work->length) {
			flush(work, entry, 0);
			work->ahead = 0;
			if (work->position >= work->length)
				return 1;
		}
		if (!work->left)
			lay_next_segment(work);
		else if (is_skipping(&work->frames))
			skip_payload(work);
		else if (work->skipped || work->filled > CHUNK - FRAME_HEADER)
			work->due = 1;
		else if (work->ahead < FRAME_HEADER && work->ahead < work->left)
			look_ahead(work);
		else
			take_frame(work);
	}
	return 0;
}
