"""Scenarios: what is at work, what goes wrong, what must come out. YAML in, frozen values out."""
