/* The saved registers as the kernel lays them out; their order is fixed by the ptrace ABI. */
#pragma once

#ifndef __x86_64__
#error "the probes know the registers of x86_64 only"
#endif

struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
