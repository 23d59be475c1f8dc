"""The pytest plugin: fixtures, options and scenario files as tests. Imports nothing heavy at start-up."""

from __future__ import annotations
