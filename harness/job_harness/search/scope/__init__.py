"""Complete search of small scopes: canonical states, every move from each, counterexamples that replay."""
