"""Proofs of reliability, too long for the tests: each counts what was tried, and what was left or lost."""
