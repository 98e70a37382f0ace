"""otelbpf: every request on a Linux host as an OpenTelemetry span, with eBPF, with nothing changed in its programs."""

__version__ = "0.1.0"
