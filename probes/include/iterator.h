/* Where a kernel call keeps its buffers: struct iov_iter as this kernel lays it out. Read at entry, for the call advances
 * it.
 */
#pragma once

#include "call.h"

static inline void find_segments(struct call *call, u64 message)
{
	u64 iterator = message + OFFSET_MSGHDR_MSG_ITER;
#ifdef ITER_TYPE_HAS_DIRECTION
	/* Before kernel commit 8cd54c1c8480 ("iov_iter: separate direction from flavour"), 5.14: the lowest bit is READ or
	 * WRITE, the flavours are bits.
	 */
	u32 type = read_u32(iterator + OFFSET_IOV_ITER_TYPE) & ~1u;
#else
	u32 type = read_u8(iterator + OFFSET_IOV_ITER_TYPE);
#endif
	u64 skip = read_u64(iterator + OFFSET_IOV_ITER_IOV_OFFSET);
	struct iovec first = {};

	switch (type) {
#ifdef ITER_UBUF
	case ITER_UBUF:
		call->base = read_u64(iterator + OFFSET_IOV_ITER_UBUF) + skip;
		call->left = read_u64(iterator + OFFSET_IOV_ITER_COUNT);
		return;
#endif
	case ITER_IOVEC:
		call->vector = read_u64(iterator + OFFSET_IOV_ITER_IOV);
		call->segments = read_u64(iterator + OFFSET_IOV_ITER_NR_SEGS);
		if (skip && call->segments) {
			copy_from_kernel(&first, sizeof(first), (void *)call->vector);
			call->base = first.base + skip;
			call->left = first.length - skip;
			call->vector += sizeof(first);
			call->segments -= 1;
		}
		return;
#ifdef ITER_BVEC
	case ITER_BVEC:
		/* Pages: sendfile since kernel commit 2dc334f1a63a ("splice, net: Use sendmsg(MSG_SPLICE_PAGES)"), 6.5. */
		call->reason = UNSEEN_SENDFILE;
		return;
#endif
	default:
		call->reason = UNSEEN_SYSCALL;
	}
}
