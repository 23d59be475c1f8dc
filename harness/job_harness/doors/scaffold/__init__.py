"""Writes the first files of a test suite, and a new tool with everything that belongs to it. Never overwrites."""
