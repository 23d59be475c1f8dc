"""What every queue must pass, ours and other people's: the cases, and how they are judged."""
