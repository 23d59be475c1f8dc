"""What a run stands on: stores and their clocks, peers in other languages, wire proxies, packages by version."""
