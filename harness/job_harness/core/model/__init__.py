"""What a job is and how it lives: pure values and tables, standard library only."""
