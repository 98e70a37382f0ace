/* The versions of a kernel are of no interest here: features are found by trying. BCC wants the macros to exist. */
#pragma once

#define KERNEL_VERSION(major, minor, patch) (((major) << 16) + ((minor) << 8) + (patch))
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 8, 0)
