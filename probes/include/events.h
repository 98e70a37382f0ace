/* The wire ABI between the probes and otelbpf/events/wire.py, which mirrors it; a test proves the two equal.
 *
 * Little endian, naturally aligned, padding written out. A change of layout or meaning raises OTELBPF_ABI.
 * A compiler outside BCC includes this file too (the ABI test, the record of a fake kernel), hence the types below.
 */
#pragma once

#ifdef OTELBPF_HOST
#include <stdint.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
#endif

#define OTELBPF_ABI 4

#define COMM_BYTES 16
#define TAIL_BYTES 8
#define ANSWER_BYTES 1024

/* What a record tells. Numbers are never reused. Kinds from 32 on are made in user space and have no struct here. */
enum record_kind {
	RECORD_STATE = 1,	/* a TCP socket changed its state */
	RECORD_DATA = 2,	/* bytes were sent or received */
	RECORD_PROCESS = 3,	/* a process was seen at a traced socket for the first time (or since its exec) */
	RECORD_TLS = 4,	/* something about a TLS session: which socket carries it, its end */
	RECORD_ANSWER = 5,	/* a name server answered */
};

/* Flags of a record; the upper byte holds what a data record could not copy and why (enum unseen). */
enum record_flag {
	FLAG_JOINED = 1 << 0,	/* the socket was open before the probes were: offsets count from the first sight */
	FLAG_CLIENT = 1 << 1,	/* this socket connected */
	FLAG_SERVER = 1 << 2,	/* this socket was accepted */
	FLAG_SENT = 1 << 3,	/* data: sent by this socket; otherwise received */
	FLAG_CONTINUED = 1 << 4,	/* data: a further piece of the same system call as the record before */
	FLAG_PLAIN = 1 << 5,	/* data: plain text of a TLS session, as the TLS library took or gave it */
	FLAG_UNFINISHED = 1 << 6,	/* data, plain text: a further piece of the same call follows */
	FLAG_FILLED = 1 << 7,	/* data, plain text received: as much as there was room for; there may be more of the record */
};

/* Why bytes of a data record beyond its captured prefix were not copied. */
enum unseen {
	UNSEEN_NONE = 0,
	UNSEEN_BUDGET = 1,	/* beyond the copy limit of a message: a body, or a head too long */
	UNSEEN_SENDFILE = 2,	/* sendfile, splice: the bytes never were in user memory */
	UNSEEN_IO_URING = 3,	/* io_uring: no system call whose buffer could be read */
	UNSEEN_SYSCALL = 4,	/* another system call than those the probes know, a 32-bit one, or kernel memory */
	UNSEEN_SEGMENTS = 5,	/* more iovec segments than the probe walks */
	UNSEEN_FAULT = 6,	/* the buffer could not be read */
	UNSEEN_TRUNC = 7,	/* received with MSG_TRUNC: thrown away by the application's wish */
	UNSEEN_KERNEL_TLS = 8,	/* ciphertext that only the kernel saw: it encrypts and decrypts for the application */
};

/* The reasons of the kernel's own loss counters (array map `losses`, one struct loss a reason and CPU). */
enum loss_reason {
	LOSS_RING_FULL_DATA = 0,	/* bytes: true length of the data records that found no room */
	LOSS_RING_FULL_STATE = 1,
	LOSS_RING_FULL_PROCESS = 2,	/* records that say who somebody is: processes, answers of name servers */
	LOSS_TABLE_FULL = 3,	/* bytes of sockets for which the socket table had no room */
	LOSS_FILTERED = 4,	/* bytes of sockets the filters left out */
	LOSS_MUTED = 5,	/* bytes of sockets user space asked not to see any more */
	LOSS_OWN = 6,	/* bytes of the collector's own connections, both ends */
	LOSS_NO_ENTRY = 7,	/* returns whose entry was not seen (kprobe tier) */
	LOSS_REASONS = 8,
};

struct loss {
	u64 events;
	u64 bytes;
};

/* Starts every record. A socket is told by its pointer and its epoch, the time its life was first seen. */
struct record_header {
	u16 kind;
	u16 flags;
	u32 size;	/* of the whole record, this header included */
	u64 time_ns;	/* CLOCK_MONOTONIC. Sent: entry of the call where known, else its return. Received: return */
	u64 socket;
	u64 epoch_ns;
	u32 pid;	/* as user space says it: the thread group last at work on the socket; 0 while none was seen */
	u32 tid;
};

/* Both ends; IPv4 addresses are IPv4-mapped IPv6 ones (RFC 4291 section 2.5.5.2). Ports in host order. */
struct endpoints {
	u8 local_address[16];
	u8 remote_address[16];
	u16 local_port;
	u16 remote_port;
	u32 network_namespace;	/* inode number of the socket's network namespace */
};

/* `captured` bytes follow the struct: the first of the `length` bytes at stream offset `offset`. */
struct data_record {
	struct record_header header;
	struct endpoints endpoints;
	u64 offset;	/* from the first byte of the direction (FLAG_JOINED: from the first sight), from write_seq/copied_seq */
	u32 length;
	u32 captured;
	u8 tail[TAIL_BYTES];	/* the last tail_length bytes, where captured < length */
	u8 tail_length;
	u8 waited_all;	/* what waited_us says holds for all bytes of the call, otherwise for its first */
	u8 reserved[2];
	u32 waited_us;	/* received by an accepted socket: microseconds from when TCP had made the call's first byte readable
			 * until the call was over, plus one; 0 not known. Only in the first record of a call */
};

/* States are the kernel's (include/net/tcp_states.h): 1 ESTABLISHED, 2 SYN_SENT, 3 SYN_RECV, 7 CLOSE, …
 *
 * FIN_WAIT2 is not told. CLOSE is the last record of a socket: where bytes may still be read, or a call is under way, it is
 * told (with its own time) when the socket is destroyed. A record whose states are equal is made in user space, for a
 * socket still open when the source ends.
 */
struct state_record {
	struct record_header header;
	struct endpoints endpoints;
	u64 sent;	/* offset behind the last byte the application sent (FIN not counted) */
	u64 received;	/* offset behind the last byte the application received */
	u64 arrived;	/* offset behind the last byte that arrived in order (FIN not counted) */
	u64 bytes_acked;	/* tcp_sock.bytes_acked as it stands: counts SYN of a connecting socket, and FIN */
	u64 bytes_received;	/* tcp_sock.bytes_received as it stands: counts FIN */
	u64 lost_sent;	/* bytes of this socket that found no room in the ring */
	u64 lost_received;
	u64 muted_sent;	/* bytes of this socket after it was muted */
	u64 muted_received;
	u32 error;	/* sk_err: 111 ECONNREFUSED, 110 ETIMEDOUT, 104 ECONNRESET, 32 EPIPE; 0 none */
	u32 retransmits;	/* tcp_sock.total_retrans */
	u32 smoothed_rtt_us;
	u32 buffer_limited_ms;	/* tcp_sock.chrono_stat: sending stood still because the send buffer was too small, and */
	u32 window_limited_ms;	/* because the peer's receive window was; stalls that are over, to the kernel's tick */
	u32 first_sent;	/* TCP sequence number of the first byte of each direction (both 0 while not known, or */
	u32 first_received;	/* FLAG_JOINED): the other end of the connection holds them crosswise */
	u8 old_state;
	u8 new_state;
	u8 reserved[2];
	u8 comm[COMM_BYTES];	/* of the process at work, if one is */
};

/* What a TLS record tells. */
enum tls_event {
	TLS_BOUND = 1,	/* the socket that carries the session: a call on it ran within a call of the TLS library */
	TLS_SHUT = 2,	/* the application sends no more (close_notify) */
	TLS_ENDED = 3,	/* the library freed the session; the last record of it */
	TLS_REFUSED = 4,	/* the peer refused the early data it began with; the last record of it, another follows */
};

/* The header's socket and epoch tell the TLS session: one plain text stream each way. Its flags and endpoints are those of
 * the socket that carries it, once that is known.
 */
struct tls_record {
	struct record_header header;
	struct endpoints endpoints;
	u64 carrier;	/* the socket, as record_header tells sockets; 0 while it is not known */
	u64 carrier_epoch_ns;
	u64 sent;	/* offset behind the last byte of plain text the application sent */
	u64 received;
	u64 lost_sent;	/* bytes of this session that found no room in the ring */
	u64 lost_received;
	u64 muted_sent;	/* bytes of this session after it was muted */
	u64 muted_received;
	u8 event;	/* enum tls_event */
	u8 reserved[7];
};

struct process_record {
	struct record_header header;
	u64 started_ns;	/* start_boottime: nanoseconds since boot, suspend included */
	u64 cgroup;	/* cgroup v2 id (inode number of its folder) */
	u8 comm[COMM_BYTES];
	u32 forked_from;	/* whose program it runs: its parent, where it was forked and has executed nothing since; or 0 */
	u32 reserved;
};

/* Of a name server; only the first header.size bytes of the record are there. */
struct answer_record {
	struct record_header header;
	u8 payload[ANSWER_BYTES];	/* the message, from its header on (RFC 1035 section 4.1) */
};
