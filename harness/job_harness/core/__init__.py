"""The thesis: a tape of choices, a history of what was observed, and monitors that judge it.

Must not know any engine or door.
"""
