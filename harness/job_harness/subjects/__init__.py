"""What users bring: processors, applications, and whole systems of their own processes."""
