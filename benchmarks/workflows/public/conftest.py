"""Fakes of models and services need no keys; without a repository there is nothing to collect."""

import os

os.environ.update(dict.fromkeys(("OPENAI_API_KEY", "SLACK_API_KEY", "ANTHROPIC_API_KEY"), "none"))
os.environ.update(LANGSMITH_TRACING="false", LOGFIRE_IGNORE_NO_CONFIG="1")
collect_ignore_glob = [] if os.environ.get("REPOSITORY") else ["test_*.py"]
