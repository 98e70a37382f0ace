/* Every map of the probes, one place. Sizes are -D knobs; user space finds the maps by these names. */
#pragma once

#include "control.h"
#include "events.h"
#include "socket.h"
#include "waiting.h"
#include "work.h"

BPF_RINGBUF_OUTPUT(events, RING_PAGES);
BPF_TABLE("hash", u64, struct socket_entry, sockets, MAX_SOCKETS);
BPF_TABLE("hash", struct socket_key, struct socket_entry, untold, 16384);	/* ends for which the ring had no room */
BPF_TABLE("hash", u64, struct arrivals, arrivals, MAX_SOCKETS);	/* of accepted sockets */
BPF_TABLE("hash", u64, struct listener, listeners, 4096);
BPF_TABLE("array", u32, struct settings, settings, 1);
BPF_TABLE("array", u32, u32, exec_generation, 1);	/* grows when a process runs another program */
BPF_TABLE("percpu_array", u32, struct loss, losses, LOSS_REASONS);
BPF_TABLE("percpu_array", u32, struct work, works, 1);
BPF_TABLE("lru_hash", u32, u64, processes, 16384);	/* thread groups told of: their start time */
BPF_TABLE("lru_hash", u64, struct command, commands, 16384);	/* by socket */
BPF_TABLE("hash", u32, u32, pids, 16384);	/* enum verdict by thread group */
BPF_TABLE("hash", u16, u8, ports, 1024);
BPF_TABLE("hash", u64, u8, cgroups, 64);
BPF_TABLE("lru_hash", struct endpoints, u8, own_peers, 4096);	/* the other ends of the collector's connections */
BPF_TABLE("lru_hash", u32, u32, own_ports, 64);	/* ports the collector listens at: the network namespace */
BPF_PROG_ARRAY(telling, TELLERS);	/* the programs that tell the call in the workspace, whichever hook found it */
