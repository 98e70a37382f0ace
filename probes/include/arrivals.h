/* How long bytes waited in a socket until the application read them. */
#pragma once

#include "kernel.h"
#include "maps.h"

static inline int is_of_interest(struct socket_entry *entry)
{
	return entry->verdict == VERDICT_TRACED || entry->verdict == VERDICT_UNKNOWN;
}

/* From now on arrivals at this socket are noted. */
static inline void await_arrivals(u64 sk)
{
	struct arrivals none = {};

	none.told_to = tcp_raw_arrived_sequence(sk);
	arrivals.update(&sk, &none);
}

/* TCP has told the socket that there is something to read. The first bytes behind those that were read begin a new run;
 * what arrives behind them is not noted, so that the oldest stays.
 */
static inline void note_arrival(u64 sk, struct arrivals *noted)
{
	u32 copied = tcp_raw_copied_sequence(sk), arrived = tcp_raw_arrived_sequence(sk), index;

	if ((s32)(copied - noted->told_to) >= 0) {
		index = (noted->newest + 1) & 1;
		noted->runs[index].time_ns = bpf_ktime_get_ns();
		noted->runs[index].begin = copied;
		noted->runs[index].end = arrived;
		noted->newest = index;
	}
	noted->told_to = arrived;
}

static inline int lies_in(struct arrival *run, u32 sequence)
{
	return sequence - run->begin < run->end - run->begin;
}

/* Tells in the call's record how long what it read had waited when it was over, at `time_ns`; `first` is the sequence
 * number of its first byte.
 */
static inline void tell_wait(struct data_record *record, u64 sk, u32 first, u32 length, u64 time_ns)
{
	struct arrivals *noted = arrivals.lookup(&sk);
	struct arrival *run;
	u64 waited;

	if (!noted)
		return;
	run = &noted->runs[0];
	if (!lies_in(run, first)) {
		run = &noted->runs[1];
		if (!lies_in(run, first))
			return;
	}
	waited = time_ns > run->time_ns ? (time_ns - run->time_ns) / 1000 : 0;
	if (waited >= 0xffffffff)
		return;
	record->waited_us = waited + 1;
	record->waited_all = lies_in(run, first + length - 1);
}
