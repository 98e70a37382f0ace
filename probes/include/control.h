/* What user space tells the probes; otelbpf/sources/control.py mirrors it, a test proves the two equal. */
#pragma once

#include "events.h"
#include "socket.h"

/* What user space sets; read by every program at every event. One element, written whole. */
struct settings {
	u32 own_pid;	/* the collector's thread group */
	u32 modes;	/* enum mode */
	u32 head_limit;	/* bytes copied of a message */
	u32 more_limit;	/* bytes copied of a call on a socket that pipelines */
	u32 wake_bytes;	/* a CPU wakes the reader after writing so many */
	u32 command_generation;	/* grows when `commands` got entries */
	u32 holding;	/* a TLS library has probes at a part of its functions: of whom we know nothing, we learn nothing */
	u32 reserved;
};

enum mode {
	MODE_PIDS = 1 << 0,	/* only processes with a verdict in `pids` */
	MODE_ASK = 1 << 1,	/* a process without one is traced until user space gives it */
	MODE_PORTS = 1 << 2,	/* only sockets with a port, local or remote, in `ports` */
	MODE_CGROUPS = 1 << 3,	/* only processes below a cgroup in `cgroups` */
	MODE_EXECUTABLES = 1 << 4,	/* user space gives verdicts by the program a process runs */
};

/* What user space asks of one socket. */
struct command {
	u64 epoch_ns;
	u32 marks;	/* MARK_MUTED, MARK_MORE, MARK_FRAMES */
	u32 reserved;
	u64 boundary[DIRECTIONS];	/* MARK_FRAMES: offset at which a frame begins */
};
