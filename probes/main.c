/* The probes, one text for BCC: otelbpf/sources/flatten.py expands our own includes, because BCC rewrites map operations
 * in the main file only.
 */
#include <linux/types.h>
#include <asm/ptrace.h>

#include "include/events.h"
#include "include/control.h"
#include "include/socket.h"
#include "include/waiting.h"
#include "include/work.h"
#include "include/maps.h"
#include "include/kernel.h"
#include "include/emit.h"
#include "include/names.h"
#include "include/arrivals.h"
#include "include/filter.h"
#include "include/life.h"
#include "include/segments.h"
#include "include/frames.h"
#include "include/call.h"

#ifdef WITH_TLS
#include "tls_openssl.c"
#include "tls_gnutls.c"
#endif

#include "tcp_state.c"
#include "readable.c"
#include "process.c"

#ifdef WITH_TRACEPOINTS
#include "include/syscalls.h"
#include "tcp_tracepoint.c"
#endif
#ifdef WITH_KPROBES
#include "include/iterator.h"
#include "tcp_kprobe.c"
#endif
