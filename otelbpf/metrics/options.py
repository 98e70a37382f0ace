"""What can be chosen about metrics."""

from __future__ import annotations

import msgspec

from otelbpf.metrics.exponential import FineHistogram
from otelbpf.metrics.histogram import Histogram, MakeHistogram
from otelbpf.metrics.series import MAX_OF_SERVICE, MAX_SERIES


class MetricsOptions(msgspec.Struct, frozen=True):
    """The defaults are the settings'."""

    max_series: int = MAX_SERIES
    """Of each metric, over all services."""
    max_of_service: int = MAX_OF_SERVICE
    exponential: bool = False
    """Histograms are counted by powers of two as well, for whoever is sent them so."""

    @property
    def histogram(self) -> MakeHistogram:
        """Makes an empty histogram."""
        return FineHistogram if self.exponential else Histogram


DEFAULT_METRICS = MetricsOptions()
