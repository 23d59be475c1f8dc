"""Configuration invariants: what a repository sets, where, what then holds, and the rules that judge it.

`readers` turn files into `Facts`, `effective` says which value wins, `rules` judge. Nothing here runs a user's code.
"""
