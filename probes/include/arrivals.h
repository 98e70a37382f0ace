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
	u32 copied = tcp_raw_copied_sequence(sk), arrived = tcp_raw_arrived_sequence(sk);
	struct arrival *run;

	if ((s32)(copied - noted->told_to) >= 0) {
		noted->newest ^= 1;
		run = noted->newest & 1 ? &noted->runs[1] : &noted->runs[0];
		/* In this order, for lies_in(): who read another time than that of `begin` finds another `begin`. */
		run->length = 0;
		asm volatile("" : : : "memory");
		run->begin = copied;
		asm volatile("" : : : "memory");
		run->time_ns = bpf_ktime_get_ns();
		asm volatile("" : : : "memory");
		run->length = arrived - copied;
	}
	noted->told_to = arrived;
}

/* Does the byte with this sequence number lie in the run? Then `found` has the run as it was: it may be written anew
 * meanwhile, on another CPU.
 */
static inline int lies_in(struct arrival *run, u32 sequence, struct arrival *found)
{
	found->begin = *(volatile u32 *)&run->begin;
	found->length = *(volatile u32 *)&run->length;
	found->time_ns = *(volatile u64 *)&run->time_ns;
	return sequence - found->begin < found->length && *(volatile u32 *)&run->begin == found->begin;
}

/* Tells in the call's record how long what it read had waited when it was over, at `time_ns`; `first` is the sequence
 * number of its first byte.
 */
static inline void tell_wait(struct data_record *record, u64 sk, u32 first, u32 length, u64 time_ns)
{
	struct arrivals *noted = arrivals.lookup(&sk);
	struct arrival run = {};
	u64 waited;

	if (!noted || (!lies_in(&noted->runs[0], first, &run) && !lies_in(&noted->runs[1], first, &run)))
		return;
	waited = time_ns > run.time_ns ? (time_ns - run.time_ns) / 1000 : 0;
	if (waited >= 0xffffffff)
		return;
	record->waited_us = waited + 1;
	record->waited_all = first + length - 1 - run.begin < run.length;
}
