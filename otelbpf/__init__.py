"""otelbpf: every request on a Linux host as an OpenTelemetry span, seen with eBPF, with nothing changed in the applications."""

__version__ = "0.1.0"
