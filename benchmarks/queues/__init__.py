"""Searches the queues in `queues/`: see `__main__.py`."""
