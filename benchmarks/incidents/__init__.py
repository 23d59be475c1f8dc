"""Incidents that were recorded on real libraries and examples, each with a cause that only the recorder knew."""
