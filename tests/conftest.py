"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# Examples have no deadline of their own: on a busy machine any of them may be slow. pytest-timeout bounds each test.
settings.register_profile("otelbpf", deadline=None)
settings.load_profile("otelbpf")
