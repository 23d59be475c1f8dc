"""An audit: what production has written about jobs, judged by the monitors that judge a run.

A source becomes `Evidence`: events in order, and what can be judged by them. An `Auditor` judges it
and tells the story of each job that broke a guarantee. `job_table` describes tables, `database`
reads them, `spans` reads OpenTelemetry.
"""
