from itertools import pairwise

import pytest
from shop import outside
from shop.tasks import charge, deliver_webhook, report


def test_a_worker_that_dies_before_it_charges_leaves_the_order_to_another(job_harness, shop, charges):
    result = charge.delay("order-1", 4200)
    job_harness.crash_worker(at="before starting")
    job_harness.run_until_idle()
    assert result.get() == "receipt-1"
    assert charges == [("order-1", 4200)]
    assert result.job.attempts == 2


def test_a_webhook_is_tried_again_for_more_than_two_days(job_harness, shop, monkeypatch):
    tried = []

    class Server:
        def post(self, url, event):
            tried.append(job_harness.now)
            if len(tried) < 7:
                raise ConnectionError("connection refused")

    monkeypatch.setattr(outside, "http", Server())
    result = deliver_webhook.delay("https://example.test/hook", {"order": 1})
    job_harness.run_until_idle()
    assert result.get() == result.retries == 6
    waits = [round((after - before).total_seconds() / 3600) for before, after in pairwise(tried)]
    assert waits == [1, 2, 4, 8, 16, 24]


def test_a_webhook_that_is_never_taken_has_failed(job_harness, shop, monkeypatch):
    class Unreachable:
        def post(self, url, event):
            raise ConnectionError("connection refused")

    monkeypatch.setattr(outside, "http", Unreachable())
    result = deliver_webhook.delay("https://example.test/hook", {})
    job_harness.run_until_idle()
    assert (result.state, result.retries) == ("FAILURE", 6)
    assert result.result == "ConnectionError: connection refused"


def test_a_report_with_nothing_to_count_fails_with_its_error(job_harness, shop, charges):
    result = report.apply_async(("2030-01-01",), countdown=3600)
    assert result.state == "PENDING"
    with pytest.raises(RuntimeError, match="LookupError: no orders on 2030-01-01"):
        result.get()
