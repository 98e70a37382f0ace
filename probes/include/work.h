/* The per-CPU workspace of the data programs: one call being told. They run in process context with preemption off, and
 * a state program that interrupts them (softirq) does not touch it.
 */
#pragma once

#include "events.h"
#include "socket.h"

/* Bytes of one data record; a longer prefix takes several. A power of two. */
#define CHUNK 8192

/* Segments walked in one run of the program. It goes on by a tail call, of which the kernel allows 33 in a row, the first
 * one included; so IOV_MAX segments can be walked. A frame of HTTP/2 takes a step or two.
 */
#define WALK_STEPS 32
#define FRAME_STEPS 64
#define WALK_RUNS 32

/* The programs that tell a call, by their place in `telling`. */
enum teller {
	TELL_CALL = 0,
	TELL_FRAMES = 1,
	TELLERS = 2,
};

/* A call that sent or received bytes, as a tier's hook found it. */
struct call {
	u64 sk;
	u64 time_ns;
	u64 base;	/* the buffer, or what is left of the first segment */
	u64 left;
	u64 vector;	/* the segments behind it */
	u64 segments;
	u32 direction;
	u32 length;	/* bytes sent or received */
	u32 reason;	/* enum unseen: the content is out of reach */
	u32 flags;	/* of a receiving call */
};

struct work {
	struct data_record record;
	u8 payload[2 * CHUNK];	/* twice: the verifier adds the largest offset and the largest length */
	struct call call;
	u32 runs;	/* of the program that walks it; before the first the call is not in the socket's account */
	u32 reserved;
	u64 begin;	/* stream offset of the call's first byte */
	u64 length;	/* of the call */
	u64 position;	/* bytes of the call dealt with */
	u64 told;	/* bytes of the call in records already made */
	u64 filled;	/* bytes in payload */
	u64 budget;
	u64 vector;	/* the next struct iovec */
	u64 segments;	/* left behind the current one */
	u64 base;	/* what is left of the current segment */
	u64 left;
	u64 skipped;	/* bytes of this record not copied */
	u64 tail;	/* the last of them, the newest byte highest */
	u32 reason;	/* enum unseen, once bytes of this record are not copied */
	u32 written;	/* bytes since the last wake-up */
	u32 wake_bytes;	/* as the settings have them, and the next */
	u32 head_limit;
	u32 due;	/* a record is to be made before the walk goes on */
	u32 ahead;	/* bytes of the segment that lie in payload behind the filled ones, to be looked at */
	struct frames frames;	/* of the call's direction, while its frames are walked */
};

struct iovec {
	u64 base;
	u64 length;
};
