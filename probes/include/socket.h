/* What the probes remember of a socket, from its birth (or first sight) until the kernel destroys it.
 *
 * Calls (process context) and changes of state (softirq, often on another CPU) work on an entry at the same time. So a
 * member is written by one of them only: end, lost, muted, budget, marks, verdict, pid by calls; state, life and the
 * numbers at the end by changes of state. Counters that two calls may meet at are added to atomically.
 *
 * User space walks the map at the end, for the sockets still open; sources/sockets.py mirrors the struct.
 */
#pragma once

#include "events.h"

enum direction {
	RECEIVED = 0,
	SENT = 1,
	DIRECTIONS = 2,
	NO_DIRECTION = 2,
};

enum verdict {
	VERDICT_UNKNOWN = 0,	/* no process was seen at the socket yet, or user space has not answered */
	VERDICT_TRACED = 1,
	VERDICT_FILTERED = 2,
	VERDICT_OWN = 3,
};

enum mark {
	MARK_MUTED = 1 << 0,	/* user space wants no more data records */
	MARK_MORE = 1 << 1,	/* user space wants more bytes of each call */
	MARK_OPENED = 1 << 2,	/* the birth was seen but not told yet: the verdict waits for a process */
	MARK_ASKED = 1 << 3,	/* a process was at work here */
	MARK_KERNEL = 1 << 4,	/* a socket of the kernel's own: what runs on top of it is not the call in the registers */
	MARK_FRAMES = 1 << 5,	/* of a command only: user space knows where frames of HTTP/2 begin */
};

enum life {
	LIFE_OPEN = 0,
	LIFE_ENDING = 1,	/* the protocol is through, but a call is under way, or may still read what had arrived */
	LIFE_CLOSED = 2,	/* its end was told */
};

enum frames_state {
	FRAMES_OFF = 0,
	FRAMES_AWAITED = 1,	/* user space named a boundary, which stands in `at`; the direction's next call takes it up */
	FRAMES_WALKED = 2,
	FRAMES_LOST = 3,	/* the place was lost: every call is copied instead, up to more_limit */
};

/* How far one direction of a connection that speaks HTTP/2 was walked (frames.h). Only the direction's own calls write
 * here, but for a command, which finds it off or lost.
 */
struct frames {
	u32 at;	/* low half of the offset that was reached: what goes by between it and the next call was not seen */
	u32 left;	/* bytes of the frame still to come; within a frame's header its length, as far as it is known */
	u32 copy;	/* the first of them, which are copied */
	u8 state;
	u8 gathered;	/* bytes of a frame's header that went by */
	u8 type;
	u8 flags;
};

struct socket_entry {
	u64 epoch_ns;
	struct endpoints endpoints;
	u64 end[DIRECTIONS];	/* offset behind the last byte told or counted */
	u64 lost[DIRECTIONS];
	u64 muted[DIRECTIONS];
	/* The numbers at the last change of state. */
	u64 closed_ns;
	u64 sent;
	u64 received;
	u64 arrived;
	u64 bytes_acked;
	u64 bytes_received;
	u32 error;
	u32 retransmits;
	u32 smoothed_rtt_us;
	u32 buffer_limited_ms;
	u32 window_limited_ms;
	u32 base[DIRECTIONS];	/* TCP sequence number at offset 0: with it, `end` alone says where a stream stands */
	u32 budget[DIRECTIONS];	/* bytes still to be copied of the running message */
	struct frames frames[DIRECTIONS];
	u32 command_generation;
	u32 exec_generation;
	u32 pid;	/* last seen at work here */
	u32 tid;
	u16 flags;	/* FLAG_JOINED, FLAG_CLIENT, FLAG_SERVER */
	u8 marks;
	u8 verdict;
	u8 life;
	u8 state;	/* TCP state, and the one before */
	u8 old_state;
	u8 direction;	/* of the last bytes */
	u8 told;	/* a record of this life was due, so its end has to be told */
	u8 busy[DIRECTIONS];	/* a call is accounted for, and its records are being written */
	u8 reserved;
};

/* Names a life for ever: pointers are used again at once. */
struct socket_key {
	u64 socket;
	u64 epoch_ns;
};
