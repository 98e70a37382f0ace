/* The only file that reads kernel structures. Where a member lies comes as -DOFFSET_STRUCT_MEMBER from the kernel's BTF
 * (otelbpf/sources/offsets.py names them), so that no header describes a kernel structure.
 */
#pragma once

#include "events.h"
#include "socket.h"

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6

#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_FIN_WAIT1 4
#define TCP_FIN_WAIT2 5
#define TCP_TIME_WAIT 6
#define TCP_CLOSE 7
#define TCP_CLOSE_WAIT 8
#define TCP_LAST_ACK 9
#define TCP_LISTEN 10
#define TCP_CLOSING 11

#define PF_EXITING 0x00000004
#define PF_FORKNOEXEC 0x00000040

/* The helpers bpf_probe_read_kernel and bpf_probe_read_user under names of our own: BCC looks up theirs in all the symbols
 * of the kernel, which takes longer than compiling.
 */
static long (*copy_from_kernel)(void *to, u64 size, const void *from) = (void *)BPF_FUNC_probe_read_kernel;
static long (*copy_from_user)(void *to, u64 size, const void *from) = (void *)BPF_FUNC_probe_read_user;

#define READER(bits)							\
	static inline u##bits read_u##bits(u64 address)			\
	{								\
		u##bits value = 0;					\
									\
		copy_from_kernel(&value, sizeof(value), (void *)address);	\
		return value;						\
	}

READER(8)
READER(16)
READER(32)
READER(64)

static inline u16 from_network_order(u16 value)
{
	return __builtin_bswap16(value);
}

static inline u16 sk_family(u64 sk)
{
	return read_u16(sk + OFFSET_SOCK_COMMON_SKC_FAMILY);
}

static inline int sk_is_tcp(u64 sk)
{
	u16 family = sk_family(sk);

	/* sk_protocol became a plain u16 with kernel commit bf9765145b85 ("sock: Make sk_protocol a 16-bit value"), 5.6. */
	return (family == AF_INET || family == AF_INET6) && read_u16(sk + OFFSET_SOCK_SK_PROTOCOL) == IPPROTO_TCP;
}

static inline u8 sk_state(u64 sk)
{
	return read_u8(sk + OFFSET_SOCK_COMMON_SKC_STATE);
}

/* A socket that listens has a backlog, and those it accepts inherit it. */
static inline int sk_was_accepted(u64 sk)
{
	return read_u32(sk + OFFSET_SOCK_SK_MAX_ACK_BACKLOG) != 0;
}

/* Kernel services (NFS, …) use sockets that no file stands for. */
static inline int sk_is_of_kernel(u64 sk)
{
	u64 socket = read_u64(sk + OFFSET_SOCK_SK_SOCKET);

	return !socket || !read_u64(socket + OFFSET_SOCKET_FILE);
}

/* An upper layer protocol (kernel TLS) makes the bytes of a call others than those of the stream. */
static inline int sk_has_upper_layer(u64 sk)
{
	return read_u64(sk + OFFSET_INET_CONNECTION_SOCK_ICSK_ULP_OPS) != 0;
}

static inline int sk_has_kernel_tls(u64 sk)
{
	u64 protocol = read_u64(sk + OFFSET_INET_CONNECTION_SOCK_ICSK_ULP_OPS);

	return protocol && read_u32(protocol + OFFSET_TCP_ULP_OPS_NAME) == ('t' | 'l' << 8 | 's' << 16);
}

static inline u32 sk_network_namespace(u64 sk)
{
#ifdef OFFSET_NET_NS_INUM
	return read_u32(read_u64(sk + OFFSET_SOCK_COMMON_SKC_NET) + OFFSET_NET_NS_INUM);
#else
	return 0;
#endif
}

static inline void map_ipv4(u8 *address, u32 value)
{
	__builtin_memset(address, 0, 10);
	address[10] = 0xff;
	address[11] = 0xff;
	__builtin_memcpy(address + 12, &value, 4);
}

static inline void sk_endpoints(u64 sk, struct endpoints *to)
{
	u32 ipv4_mapped[3] = {};

	/* The number in host order is cleared when the port is given back; the one for the wire stays. */
	to->local_port = read_u16(sk + OFFSET_SOCK_COMMON_SKC_NUM);
	if (!to->local_port)
		to->local_port = from_network_order(read_u16(sk + OFFSET_INET_SOCK_INET_SPORT));
	to->remote_port = from_network_order(read_u16(sk + OFFSET_SOCK_COMMON_SKC_DPORT));
	to->network_namespace = sk_network_namespace(sk);
#ifdef OFFSET_SOCK_COMMON_SKC_V6_DADDR
	if (sk_family(sk) == AF_INET6) {
		copy_from_kernel(ipv4_mapped, sizeof(ipv4_mapped), (void *)(sk + OFFSET_SOCK_COMMON_SKC_V6_DADDR));
		if (ipv4_mapped[0] || ipv4_mapped[1] || ipv4_mapped[2] != __builtin_bswap32(0xffff)) {
			copy_from_kernel(to->local_address, 16, (void *)(sk + OFFSET_SOCK_COMMON_SKC_V6_RCV_SADDR));
			copy_from_kernel(to->remote_address, 16, (void *)(sk + OFFSET_SOCK_COMMON_SKC_V6_DADDR));
			return;
		}
		/* An IPv6 socket that speaks IPv4 carries the IPv4 addresses too, and gets its mapped own one late. */
	}
#endif
	map_ipv4(to->local_address, read_u32(sk + OFFSET_SOCK_COMMON_SKC_RCV_SADDR));
	map_ipv4(to->remote_address, read_u32(sk + OFFSET_SOCK_COMMON_SKC_DADDR));
}

/* Has the peer's FIN arrived in order? Then rcv_nxt counts it (tcp_fin() sets the flag after advancing). */
static inline u32 tcp_fin_arrived(u64 sk)
{
	return read_u64(sk + OFFSET_SOCK_COMMON_SKC_FLAGS) >> SOCK_DONE & 1;
}

static inline int sk_is_orphan(u64 sk)
{
	return read_u64(sk + OFFSET_SOCK_COMMON_SKC_FLAGS) >> SOCK_DEAD & 1;
}

static inline u32 tcp_write_sequence(u64 sk)
{
	return read_u32(sk + OFFSET_TCP_SOCK_WRITE_SEQ);
}

/* Behind the last byte that arrived in order, FIN not counted. The flag first: see tcp_fin_arrived(). */
static inline u32 tcp_arrived_sequence(u64 sk)
{
	u32 fin = tcp_fin_arrived(sk);

	return read_u32(sk + OFFSET_TCP_SOCK_RCV_NXT) - fin;
}

/* Behind the last byte that arrived in order, or the FIN. */
static inline u32 tcp_raw_arrived_sequence(u64 sk)
{
	return read_u32(sk + OFFSET_TCP_SOCK_RCV_NXT);
}

/* enum tcp_chrono (include/linux/tcp.h), of which the first has no place in chrono_stat. */
#define TCP_CHRONO_RWND_LIMITED 2
#define TCP_CHRONO_SNDBUF_LIMITED 3

/* For how long sending was limited by one of them, in milliseconds; the kernel counts ticks. */
static inline u32 tcp_limited_ms(u64 sk, u32 chrono)
{
	return (u64)read_u32(sk + OFFSET_TCP_SOCK_CHRONO_STAT + 4 * (chrono - 1)) * TICK_US / 1000;
}

static inline u32 tcp_raw_copied_sequence(u64 sk)
{
	return read_u32(sk + OFFSET_TCP_SOCK_COPIED_SEQ);
}

/* Behind the last byte the application took. tcp_recvmsg() steps over the FIN when it meets it. */
static inline u32 tcp_copied_sequence(u64 sk)
{
	u32 copied = tcp_raw_copied_sequence(sk);
	u32 arrived;

	if (!tcp_fin_arrived(sk))
		return copied;
	arrived = tcp_arrived_sequence(sk);
	return (s32)(copied - arrived) > 0 ? arrived : copied;
}

static inline u64 task_leader(void)
{
	return read_u64((u64)bpf_get_current_task() + OFFSET_TASK_STRUCT_GROUP_LEADER);
}

/* The process id of the parent whose program the task runs: forked, and nothing executed since. 0 for any other. */
static inline u32 task_forked_from(u64 task)
{
	if (!(read_u32(task + OFFSET_TASK_STRUCT_FLAGS) & PF_FORKNOEXEC))
		return 0;
	return read_u32(read_u64(task + OFFSET_TASK_STRUCT_REAL_PARENT) + OFFSET_TASK_STRUCT_TGID);
}

static inline int task_is_ending(void)
{
	return read_u32((u64)bpf_get_current_task() + OFFSET_TASK_STRUCT_FLAGS) & PF_EXITING;
}

/* The folder of the task's cgroup v2. The helper that gives the ancestors' ids came late to tracing programs. */
static inline u64 task_cgroup_node(void)
{
	u64 set = read_u64((u64)bpf_get_current_task() + OFFSET_TASK_STRUCT_CGROUPS);

	return read_u64(read_u64(set + OFFSET_CSS_SET_DFL_CGRP) + OFFSET_CGROUP_KN);
}

static inline u64 cgroup_node_id(u64 node)
{
	return read_u64(node + OFFSET_KERNFS_NODE_ID);
}

static inline u64 cgroup_node_parent(u64 node)
{
	return read_u64(node + OFFSET_KERNFS_NODE_PARENT);
}
