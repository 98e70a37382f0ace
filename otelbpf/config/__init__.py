"""Every setting: what it may be, where it can come from, and where it came from."""
