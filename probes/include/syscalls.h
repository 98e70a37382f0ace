/* Where the running system call keeps its buffers, by its number and saved registers (x86_64). */
#pragma once

#include "call.h"
#define NR_READ 0
#define NR_WRITE 1
#define NR_READV 19
#define NR_WRITEV 20
#define NR_SENDFILE 40
#define NR_SENDTO 44
#define NR_RECVFROM 45
#define NR_SENDMSG 46
#define NR_RECVMSG 47
#define NR_SPLICE 275
#define NR_RECVMMSG 299
#define NR_SENDMMSG 307
#define NR_PREADV2 327
#define NR_PWRITEV2 328
#define NR_IO_URING_ENTER 426

#define CODE_SEGMENT_32 0x23	/* __USER32_CS: a system call of a 32-bit program, with other numbers */

#define PF_IO_WORKER 0x00000010
#define PF_KTHREAD 0x00200000

/* struct user_msghdr and struct mmsghdr of the system call ABI */
#define MESSAGE_VECTOR 16
#define MESSAGE_SEGMENTS 24
#define MMESSAGE_BYTES 64

/* sendmmsg and recvmmsg move one message after the other: which one is it? Counted by thread; a new call is told by its
 * arguments, or because the one before had to end (the kernel ends it with the vector, an error or a message cut short).
 */
struct batch {
	u64 vector;
	u64 count;
	u64 next;
};

BPF_TABLE("lru_hash", u32, struct batch, batches, 4096);

#define SAVED(name) (*(u64 *)(regs + __builtin_offsetof(struct pt_regs, name)))

static inline u64 user_u64(u64 address)
{
	u64 value = 0;

	copy_from_user(&value, sizeof(value), (void *)address);
	return value;
}

/* The stack pointer of the system call under way. */
static inline u64 user_stack(void)
{
	u64 regs = (u64)bpf_task_pt_regs((void *)bpf_get_current_task_btf());

	return SAVED(sp);
}

static inline void use_message(struct call *call, u64 message)
{
	call->vector = user_u64(message + MESSAGE_VECTOR);
	call->segments = user_u64(message + MESSAGE_SEGMENTS);
}

static inline void use_batch(struct call *call, u64 vector, u64 count, int result)
{
	u32 tid = bpf_get_current_pid_tgid();
	struct batch *known = batches.lookup(&tid), batch = {};
	u64 message, wanted = 0, at, length;

	batch.vector = vector;
	batch.count = count;
	if (known && known->vector == vector && known->count == count && known->next < count)
		batch.next = known->next;
	message = vector + batch.next * MMESSAGE_BYTES;
	batch.next += 1;
	if (result <= 0)
		batch.next = 0;
	use_message(call, message);
	if (call->direction == SENT) {
		/* Cut short? One segment is the rule; more are not added up, and count as sent whole. */
		at = call->vector;
		length = user_u64(at + 8);
		wanted = call->segments == 1 ? length : 0;
		if (result > 0 && (u64)result < wanted)
			batch.next = 0;
	}
	batches.update(&tid, &batch);
}

static inline void find_buffers(struct call *call, int result)
{
	u64 task = (u64)bpf_get_current_task_btf();
	u32 flags = *(u32 *)(task + OFFSET_TASK_STRUCT_FLAGS);
	u64 regs;

	/* The verifier knows both pointers' types, and lets their members be read without a helper. */
	if (flags & (PF_IO_WORKER | PF_KTHREAD)) {
		call->reason = flags & PF_IO_WORKER ? UNSEEN_IO_URING : UNSEEN_SYSCALL;
		return;
	}
	regs = (u64)bpf_task_pt_regs((void *)task);
	if (SAVED(cs) == CODE_SEGMENT_32) {
		call->reason = UNSEEN_SYSCALL;
		return;
	}
	switch (SAVED(orig_ax)) {
	case NR_READ:
	case NR_WRITE:
	case NR_SENDTO:
	case NR_RECVFROM:
		call->base = SAVED(si);
		call->left = SAVED(dx);
		break;
	case NR_READV:
	case NR_WRITEV:
	case NR_PREADV2:
	case NR_PWRITEV2:
		call->vector = SAVED(si);
		call->segments = SAVED(dx);
		break;
	case NR_SENDMSG:
	case NR_RECVMSG:
		use_message(call, SAVED(si));
		break;
	case NR_SENDMMSG:
		use_batch(call, SAVED(si), SAVED(dx), result);
		break;
	case NR_RECVMMSG:
		/* With a time limit the call may end at any message, unseen. */
		if (SAVED(r8))
			call->reason = UNSEEN_SYSCALL;
		else
			use_batch(call, SAVED(si), SAVED(dx), result);
		break;
	case NR_SENDFILE:
	case NR_SPLICE:
		call->reason = UNSEEN_SENDFILE;
		break;
	case NR_IO_URING_ENTER:
		call->reason = UNSEEN_IO_URING;
		break;
	default:
		call->reason = UNSEEN_SYSCALL;
	}
}
