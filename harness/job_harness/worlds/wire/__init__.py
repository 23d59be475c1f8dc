"""Proxies between a client and its store, which stop at a gate before each message."""
