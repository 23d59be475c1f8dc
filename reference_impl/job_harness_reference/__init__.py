"""A job queue on PostgreSQL: two tables, one lifecycle, fenced claims.

Never imports `harness`: the judge and the judged share no code.
"""
