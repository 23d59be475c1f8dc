"""A test of `job_harness` that is played again and again, with choices at every gate.

`explored_test` is its side towards pytest; `campaign` chooses the runs, `played` carries one out, and `isolation` keeps
them apart.
"""
