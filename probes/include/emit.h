/* Writing records. Every failure is counted by reason, and on the socket whose record it was. */
#pragma once

#include "kernel.h"
#include "maps.h"

#define DO_NOT_WAKE 1	/* BPF_RB_NO_WAKEUP: the reader polls on a short timer */
#define WAKE 2	/* BPF_RB_FORCE_WAKEUP */

/* Atomic. The compiler's own builtin sometimes returns the old value though nobody asks for it, in an instruction that
 * kernels before 5.12 do not know.
 */
static inline void add(u64 *counter, u64 value)
{
	asm volatile("lock *(u64 *)(%0 + 0) += %1" : : "r"(counter), "r"(value) : "memory");
}

static inline void count_loss(u32 reason, u64 bytes)
{
	struct loss *loss = losses.lookup(&reason);

	if (loss) {
		add(&loss->events, 1);
		add(&loss->bytes, bytes);
	}
}

static inline void fill_header(struct record_header *header, u16 kind, u32 size, u64 socket, struct socket_entry *entry)
{
	header->kind = kind;
	header->flags = entry->flags;
	header->size = size;
	header->socket = socket;
	header->epoch_ns = entry->epoch_ns;
	header->pid = entry->pid;
	header->tid = entry->tid;
}

/* Data and state programs share no workspace, so what may be written by both goes straight into the ring. */
static inline void emit_hole(u64 socket, struct socket_entry *entry, u32 direction, u64 begin, u64 length, u32 reason)
{
	struct data_record *record = events.ringbuf_reserve(sizeof(*record));

	if (!record) {
		count_loss(LOSS_RING_FULL_DATA, length);
		add(&entry->lost[direction & 1], length);
		return;
	}
	fill_header(&record->header, RECORD_DATA, sizeof(*record), socket, entry);
	record->header.flags |= reason << 8 | (direction == SENT ? FLAG_SENT : 0);
	record->header.time_ns = bpf_ktime_get_ns();
	record->endpoints = entry->endpoints;
	record->offset = begin;
	record->length = length;
	record->captured = 0;
	__builtin_memset(record->tail, 0, sizeof(record->tail));
	record->tail_length = 0;
	record->waited_all = 0;
	__builtin_memset(record->reserved, 0, sizeof(record->reserved));
	record->waited_us = 0;
	events.ringbuf_submit(record, DO_NOT_WAKE);
}

/* Bytes that went by no hook (tcp_splice_read(), tcp_sendpage() where it cannot be hooked): told as soon as they are
 * noticed. A record's length has 32 bits, as the sequence numbers have; what is beyond them is a hole to user space.
 */
static inline void advance_to(u64 socket, struct socket_entry *entry, u32 direction, u64 begin, u32 reason)
{
	u64 end = entry->end[direction & 1];

	if (begin <= end)
		return;
	if (entry->marks & MARK_MUTED) {
		add(&entry->muted[direction & 1], begin - end);
		count_loss(LOSS_MUTED, begin - end);
	} else {
		if (begin - end > 0xffffffff)
			begin = end + 0xffffffff;
		emit_hole(socket, entry, direction, end, begin - end, reason);
	}
}

/* The offset of a TCP sequence number, given one less than 2^31 bytes away. */
static inline u64 offset_near(struct socket_entry *entry, u32 direction, u32 sequence, u64 near)
{
	return near + (s64)(s32)(sequence - entry->base[direction & 1] - (u32)near);
}

static inline u64 offset_of(struct socket_entry *entry, u32 direction, u32 sequence)
{
	return offset_near(entry, direction, sequence, entry->end[direction & 1]);
}

/* Takes the numbers of a socket into its entry, for emit_state(). write_seq counts our FIN once a state behind it was
 * reached (tcp_close_state() sets the state before tcp_send_fin() writes). Before the connection stands there are no
 * streams. Where the kernel encrypts, gigabytes may have gone by no hook: there the socket's own counts are near.
 */
static inline void note_numbers(u64 sk, struct socket_entry *entry, u8 state)
{
	u32 fin = state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING || state == TCP_LAST_ACK ||
		  state == TCP_TIME_WAIT;

	u64 sent = entry->end[SENT], received = entry->end[RECEIVED];

	entry->bytes_acked = read_u64(sk + OFFSET_TCP_SOCK_BYTES_ACKED);
	entry->bytes_received = read_u64(sk + OFFSET_TCP_SOCK_BYTES_RECEIVED);
	if (sk_has_kernel_tls(sk) && !(entry->flags & FLAG_JOINED)) {
		sent = entry->bytes_acked;
		received = entry->bytes_received;
	}
	if (state != TCP_SYN_SENT && state != TCP_SYN_RECV) {
		entry->sent = offset_near(entry, SENT, tcp_write_sequence(sk) - fin, sent);
		entry->received = offset_near(entry, RECEIVED, tcp_copied_sequence(sk), received);
		entry->arrived = offset_near(entry, RECEIVED, tcp_arrived_sequence(sk), received);
	}
	entry->error = read_u32(sk + OFFSET_SOCK_SK_ERR);
	entry->retransmits = read_u32(sk + OFFSET_TCP_SOCK_TOTAL_RETRANS);
	entry->smoothed_rtt_us = read_u32(sk + OFFSET_TCP_SOCK_SRTT_US) >> 3;
	entry->buffer_limited_ms = tcp_limited_ms(sk, TCP_CHRONO_SNDBUF_LIMITED);
	entry->window_limited_ms = tcp_limited_ms(sk, TCP_CHRONO_RWND_LIMITED);
	entry->closed_ns = bpf_ktime_get_ns();
}

/* Tells the transition old_state -> state with the numbers noted last. Returns 0 when the ring had no room. */
static inline int emit_state(u64 socket, struct socket_entry *entry, u64 time_ns, u8 old_state, u8 state, int with_comm)
{
	struct state_record *record = events.ringbuf_reserve(sizeof(*record));

	entry->told = 1;
	if (!record) {
		count_loss(LOSS_RING_FULL_STATE, 0);
		return 0;
	}
	fill_header(&record->header, RECORD_STATE, sizeof(*record), socket, entry);
	record->header.time_ns = time_ns;
	record->endpoints = entry->endpoints;
	record->sent = entry->sent;
	record->received = entry->received;
	record->arrived = entry->arrived;
	record->bytes_acked = entry->bytes_acked;
	record->bytes_received = entry->bytes_received;
	record->lost_sent = entry->lost[SENT];
	record->lost_received = entry->lost[RECEIVED];
	record->muted_sent = entry->muted[SENT];
	record->muted_received = entry->muted[RECEIVED];
	record->error = entry->error;
	record->retransmits = entry->retransmits;
	record->smoothed_rtt_us = entry->smoothed_rtt_us;
	record->buffer_limited_ms = entry->buffer_limited_ms;
	record->window_limited_ms = entry->window_limited_ms;
	record->first_sent = entry->flags & FLAG_JOINED ? 0 : entry->base[SENT];
	record->first_received = entry->flags & FLAG_JOINED ? 0 : entry->base[RECEIVED];
	record->old_state = old_state;
	record->new_state = state;
	record->reserved[0] = 0;
	record->reserved[1] = 0;
	__builtin_memset(record->comm, 0, sizeof(record->comm));
	if (with_comm)
		bpf_get_current_comm(record->comm, sizeof(record->comm));
	events.ringbuf_submit(record, DO_NOT_WAKE);
	return 1;
}

/* A process at a traced socket for the first time: the reader is woken, for the process may not live long. Returns 0 when
 * the ring had no room.
 */
static inline int tell_process(u32 pid, u32 tid)
{
	struct process_record *record;
	u64 leader, started;

	if (processes.lookup(&pid))
		return 1;
	leader = task_leader();
	started = read_u64(leader + OFFSET_TASK_STRUCT_START_BOOTTIME);
	record = events.ringbuf_reserve(sizeof(*record));
	if (!record) {
		count_loss(LOSS_RING_FULL_PROCESS, 0);
		return 0;
	}
	record->header.kind = RECORD_PROCESS;
	record->header.flags = 0;
	record->header.size = sizeof(*record);
	record->header.time_ns = bpf_ktime_get_ns();
	record->header.socket = 0;
	record->header.epoch_ns = 0;
	record->header.pid = pid;
	record->header.tid = tid;
	record->started_ns = started;
	record->cgroup = bpf_get_current_cgroup_id();
	copy_from_kernel(record->comm, sizeof(record->comm), (void *)(leader + OFFSET_TASK_STRUCT_COMM));
	record->forked_from = task_forked_from(leader);
	record->reserved = 0;
	events.ringbuf_submit(record, WAKE);
	processes.update(&pid, &started);
	return 1;
}
