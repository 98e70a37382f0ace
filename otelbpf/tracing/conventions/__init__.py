"""Semantic conventions, one file a protocol: what an exchange is called and which attributes it has."""
