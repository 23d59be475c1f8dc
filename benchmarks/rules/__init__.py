"""What the rules of `check` claim, run on releases of each library."""
