"""Judging without running.

Settings (`check`), what production recorded (`audit`), one job in a running system (`verify`).
"""
