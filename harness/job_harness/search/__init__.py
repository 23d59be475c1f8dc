"""Looks for a run that breaks an invariant, and for the smallest one that does."""
