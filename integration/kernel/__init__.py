"""The probes alone: workloads whose every call is known, and the exact records they must give."""
