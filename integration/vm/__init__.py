"""Other kernels: Debian's, booted under QEMU with this host's files, running the same integration tests."""
