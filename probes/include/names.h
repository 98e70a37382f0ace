/* Answers of DNS: by which names the addresses are known that processes connect to. Only what arrives at a UDP socket that is
 * connected to a name server is told: so the kernel has made sure that it comes from there, as the resolver wants to know.
 */
#pragma once

#include "emit.h"

#define IPPROTO_UDP 17
#define NAME_SERVER_PORT 53

static inline int sk_asks_names(u64 sk)
{
	u16 family;

	if (read_u16(sk + OFFSET_SOCK_COMMON_SKC_DPORT) != from_network_order(NAME_SERVER_PORT))
		return 0;
	family = sk_family(sk);
	return (family == AF_INET || family == AF_INET6) && read_u16(sk + OFFSET_SOCK_SK_PROTOCOL) == IPPROTO_UDP;
}

/* The newest datagram of the socket's queue. Another thread may take it meanwhile, and then what is read may be anything: user
 * space believes only what can be read as an answer.
 */
static inline void tell_answer(u64 sk)
{
	u64 queue = sk + OFFSET_SOCK_SK_RECEIVE_QUEUE, buffer = read_u64(queue + OFFSET_SK_BUFF_HEAD_PREV);
	struct answer_record *record;
	u32 length;

	if (!buffer || buffer == queue)
		return;
	length = read_u32(buffer + OFFSET_SK_BUFF_LEN);
	if (!length || length >= ANSWER_BYTES || read_u32(buffer + OFFSET_SK_BUFF_DATA_LEN))
		return;
	record = events.ringbuf_reserve(sizeof(*record));
	if (!record) {
		count_loss(LOSS_RING_FULL_PROCESS, 0);
		return;
	}
	asm volatile("" : "+r"(length));	/* the compiler knows that it is so, and the verifier does not */
	length &= ANSWER_BYTES - 1;
	record->header.kind = RECORD_ANSWER;
	record->header.flags = 0;
	record->header.size = sizeof(record->header) + length;
	record->header.time_ns = bpf_ktime_get_ns();
	record->header.socket = 0;
	record->header.epoch_ns = 0;
	record->header.pid = 0;
	record->header.tid = 0;
	copy_from_kernel(record->payload, length, (void *)read_u64(buffer + OFFSET_SK_BUFF_DATA));
	events.ringbuf_submit(record, DO_NOT_WAKE);
}
