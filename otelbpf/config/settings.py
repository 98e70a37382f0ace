"""Every setting: its type, default, bounds, one sentence about it, and where else than in the file it may be given.

A setting's key is its section and name: `capture.ring_bytes`. Its environment variable follows from the key
(OTELBPF_CAPTURE_RING_BYTES), and where OpenTelemetry names a standard variable, that one counts too.
`config/otelbpf.yaml` shows all of them at their defaults.
"""

from __future__ import annotations

import msgspec

from otelbpf.config.capturing import Capture, Filters, Limits
from otelbpf.config.exporting import Export, Metrics, Otlp, Sampling
from otelbpf.config.telling import Conventions, Health, Log, Privileges, Redaction, Resource, Routes, Workloads


class Settings(msgspec.Struct, frozen=True):
    """All of them."""

    filters: Filters = Filters()
    capture: Capture = Capture()
    limits: Limits = Limits()
    export: Export = Export()
    otlp: Otlp = Otlp()
    metrics: Metrics = Metrics()
    sampling: Sampling = Sampling()
    redaction: Redaction = Redaction()
    conventions: Conventions = Conventions()
    resource: Resource = Resource()
    workloads: Workloads = Workloads()
    routes: Routes = Routes()
    health: Health = Health()
    log: Log = Log()
    privileges: Privileges = Privileges()
