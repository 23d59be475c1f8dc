"""Scenario + choices + engine -> Run, in four phases: chaos, heal, settle, judge."""
