"""Choices, the kernel that steps actors, and the clock that it owns. Knows no queue and no history."""
