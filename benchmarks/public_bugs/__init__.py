"""Looks for bugs of public trackers in the releases that have them, by the generic workload alone."""
