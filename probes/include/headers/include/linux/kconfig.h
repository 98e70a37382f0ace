/* The kernel configuration as far as BCC asks for it. This folder stands in for kernel headers: BCC compiles the probes
 * against it alone, and what the probes know of kernel structures comes from BTF.
 */
#define CONFIG_BPF_SYSCALL 1
