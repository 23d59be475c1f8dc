import pytest
from shop import outside
from shop.app import app

from job_harness import at_most_once, effect


@pytest.fixture
def job_invariants():
    """What must hold in every run, also where a worker dies or a message arrives twice."""
    return [at_most_once("charge", per=["order"])]


@pytest.fixture
def charges(monkeypatch):
    """A payment provider that charges whenever it is asked."""
    charged = []

    class Provider:
        def charge(self, order, cents):
            effect("charge", order=order, cents=cents)
            charged.append((order, cents))
            return f"receipt-{len(charged)}"

    monkeypatch.setattr(outside, "payments", Provider())
    monkeypatch.setattr(outside, "orders", {})
    return charged


@pytest.fixture
def shop(job_harness):
    """The application's tasks, served by the harness."""
    return job_harness.register_celery(app)
