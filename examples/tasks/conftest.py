"""Leaves out the files whose library is not installed, and says so."""

from importlib.util import find_spec

FILES = {
    "celery": "test_celery_task.py",
    "dramatiq": "test_dramatiq_task.py",
    "django": "test_django_task.py",
    "temporalio": "test_temporal_activity.py",
}
MISSING = [library for library in FILES if find_spec(library) is None]
collect_ignore = [FILES[library] for library in MISSING]


def pytest_report_header():
    return f"left out, since not installed: {', '.join(MISSING)}" if MISSING else None
