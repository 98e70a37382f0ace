"""The workload's own programs: small servers and clients on libraries that nobody here wrote."""
