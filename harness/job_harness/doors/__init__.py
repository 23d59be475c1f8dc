"""How people come in: the command line, pytest, `serve` for other languages, and the files that `init` writes."""
