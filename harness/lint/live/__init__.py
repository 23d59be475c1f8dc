"""What a running database shows: its own settings, and what is wrong now. Everything is read, nothing is changed."""
