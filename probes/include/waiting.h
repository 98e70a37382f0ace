/* What the probes remember of what waits: bytes to be read, connections to be accepted. */
#pragma once

#include "events.h"

/* Bytes of which the first arrived when everything before them had been read: TCP made them readable at `time_ns`. */
struct arrival {
	u64 time_ns;
	u32 begin;	/* TCP sequence number of the first byte; every run has another */
	u32 length;	/* 0 while the others are written */
};

/* Of an accepted socket. The newest two, for what arrives between a call's end and its account must not take the place of
 * what that call read.
 */
struct arrivals {
	struct arrival runs[2];
	u32 newest;
	u32 told_to;	/* TCP sequence number behind what the socket was told is readable */
};

/* A listening socket; sources/queues.py mirrors the struct. */
struct listener {
	struct endpoints endpoints;
	u64 epoch_ns;	/* when it was first seen */
	u32 pid;	/* who called listen(); 0 where that was before the probes */
	u32 depth;	/* connections that wait to be accepted, at the last look */
	u32 deepest;	/* the most since the look before */
	u32 deepest_told;	/* the most between the last two looks */
	u32 limit;	/* the backlog, as listen() was told: one more may wait */
	u32 dropped;	/* sock.sk_drops: connections and SYNs thrown away, most of them because the queue was full */
};
