"""Tests on a real kernel with real programs: each says what it needs, and a skip tells why."""
