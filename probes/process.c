/* Forgets processes that end or run another program, so that they are told again. */
#include "include/life.h"

static inline void forget(u32 pid)
{
	processes.delete(&pid);
}

int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0, *generation = exec_generation.lookup(&zero), *verdict;
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct settings *to = read_settings();

	if (!to)
		return 0;
	forget(pid);
	/* Two at once may count as one: what matters is that the number is another than before. */
	if (generation)
		*generation += 1;
	if (!(to->modes & MODE_EXECUTABLES))
		return 0;
	/* The verdict was on another program. A process chosen by its pid stays one to be asked about. */
	verdict = pids.lookup(&pid);
	if (verdict && to->modes & MODE_ASK)
		pids.delete(&pid);
	else if (verdict)
		*verdict = VERDICT_UNKNOWN;
	return 0;
}

/* The last thread but one may outlive the leader; its next bytes tell the process again. */
int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	u32 pid = id >> 32;

#ifdef WITH_TLS
	/* Every thread: in a map that is full, the dead would push out those who wait in a call. */
	tls_calls.delete(&id);
#endif
	if (pid != (u32)id)
		return 0;
	forget(pid);
	pids.delete(&pid);
	return 0;
}
