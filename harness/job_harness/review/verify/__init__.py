"""Tries a running system once, as its user would: one job through its own API, watched in its own tables."""
