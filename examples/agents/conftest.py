"""Leaves out the files whose library is not installed, and says so."""

from importlib.util import find_spec

FILES = {
    "test_agent_framework.py": "agent_framework",
    "test_approval.py": "langgraph",
    "test_approved_call.py": "langgraph.checkpoint.postgres",
    "test_dbos.py": "dbos",
    "test_dbos_postgres.py": "dbos",
    "test_langgraph.py": "langgraph",
    "test_pydantic_ai.py": "pydantic_ai",
    "test_three_tools.py": "langgraph",
}


def is_there(library):
    try:
        return find_spec(library) is not None
    except ModuleNotFoundError:  # of what it is a part of
        return False


collect_ignore = [file for file, library in FILES.items() if not is_there(library)]


def pytest_report_header():
    return f"left out, since their library is not installed: {', '.join(collect_ignore)}" if collect_ignore else None
