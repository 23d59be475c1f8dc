"""One room for each engine; only its adapter sees it."""
