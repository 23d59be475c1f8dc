"""Jobs of known queues on Redis, as their keys show them: no pickle is loaded, and arguments are told from keys."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from typing import Any

from job_harness.subjects.systems.brokers import BROKERS, TakenJobs


def only(broker: str, *told: Any) -> dict[str, Any]:
    (row,) = BROKERS[broker].rows([list(told)])
    assert BROKERS[broker].columns <= row.keys()
    return row


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('a pickle was loaded')",))


def test_a_job_of_arq_is_known_by_its_arguments_and_not_by_keys_of_its_pickle() -> None:
    job = {"t": None, "f": "charge", "a": ("k", Bomb()), "k": {"order": "a"}, "et": 1_893_456_000_000}
    row = only("arq", b"1", b"arq:job:", pickle.dumps(job), b"1893456005000", 1_893_456_070_000, b"2")
    assert row["status"] == "PROCESSING"
    assert row["attempts"] == 2
    assert row["input"][0] == "k"
    assert row["input"][-2:] == ["a", "1"]
    assert (row["lease_until"] - row["start_after"]).total_seconds() == 65


def test_a_result_of_arq_says_whether_it_is_a_success() -> None:
    result = {"t": 1, "f": "s", "a": ("s",), "k": {}, "et": 1_893_456_000_000, "s": False, "r": ValueError("no")}
    told = pickle.dumps({**result, "st": 1_893_456_000_500, "ft": 1_893_456_001_500})
    row = only("arq", b"1", b"arq:result:", told, b"", -2, b"")
    assert row["status"] == "FAILED"
    assert row["error"]


def test_a_result_of_arq_whose_job_was_gone_has_no_time_at_which_it_was_sent() -> None:
    told = pickle.dumps({"t": 4, "f": "<unknown>", "a": (), "k": {}, "et": 0, "s": False, "r": "x", "st": 0, "ft": 0})
    row = only("arq", b"1", b"arq:result:", told, b"", -2, b"")
    assert (row["status"], row["started_at"], row["completed_at"]) == ("FAILED", None, None)


def test_arq_takes_a_job_that_has_failed_for_good_once_more_to_write_that_down() -> None:
    job = pickle.dumps({"t": None, "f": "charge", "a": ("a",), "k": {}, "et": 1_893_456_000_000})
    (row,) = BROKERS["arq"].read([[b"1", b"arq:job:", job, b"", -2, b"3"]], most=3)
    assert row["max_attempts"] == 4


def test_a_job_of_rq_is_known_by_the_texts_of_its_call() -> None:
    data = zlib.compress(pickle.dumps(("tasks.charge", None, ("a", Bomb()), {})))
    flat = [b"data", data, b"status", b"started", b"created_at", b"2030-01-01T00:00:00.000000Z"]
    row = only("rq", b"1", b"1893456060", b"", [*flat, b"number_of_retries", b"1", b"retries_left", b"2"], [])
    assert row["input"][:2] == ["tasks.charge", "a"]
    assert (row["status"], row["attempts"], row["max_attempts"]) == ("PROCESSING", 2, 4)


def celery(where: str, *, retries: int = 0, status: str = "") -> dict[str, Any]:
    body = base64.b64encode(json.dumps([["a"], {}, {}]).encode()).decode()
    message = {"body": body, "headers": {"id": "1", "retries": retries}}
    told = [[where.encode(), json.dumps([message, "", ""] if where == "unacked" else message).encode(), b""]]
    if status:
        told.append([b"result", json.dumps({"task_id": "1", "status": status, "result": None}).encode(), b""])
    (row,) = BROKERS["celery"].rows(told)
    return row


def test_a_task_of_celery_stands_in_its_queue_with_a_worker_or_in_its_result() -> None:
    assert celery("queued")["status"] == "PENDING"
    assert celery("unacked")["status"] == "PROCESSING"
    assert celery("queued", retries=1, status="RETRY")["status"] == "PENDING"
    assert celery("unacked", status="SUCCESS")["status"] == "COMPLETED"
    assert "a" in celery("queued")["input"]
    (row,) = BROKERS["celery"].rows(
        [[b"queued", b"no JSON", b""], [b"result", b'{"task_id": "2", "status": "X"}', b""]]
    )
    assert row["id"] == "2"
    assert row["status"] == "PENDING"


def test_a_job_of_bullmq_that_was_stalled_has_used_up_no_attempt() -> None:
    flat = [b"name", b"charge", b"data", b'{"order":"a"}', b"opts", b'{"attempts":2}', b"timestamp", b"1893456000000"]
    row = only("bullmq", b"{bull}:q", b"1", b"active", b"", 1_893_456_030_000, [*flat, b"ats", b"3", b"stc", b"1"])
    assert row["id"] == "{bull}:q:1"
    assert row["input"] == [{"order": "a"}, "1"]
    assert (row["attempts"], row["max_attempts"], row["status"]) == (3, 3, "PROCESSING")
    late = only("bullmq", b"bull:q", b"1", b"delayed", b"%d" % (1_893_456_005_000 * 4096), -2, flat)
    assert late["start_after"].timestamp() == 1_893_456_005


def test_a_job_that_was_sent_without_a_delay_has_no_start_time_by_the_clock_of_its_client() -> None:
    job = pickle.dumps({"t": None, "f": "charge", "a": ("a",), "k": {}, "et": 1_893_456_000_000})
    sent = [b"timestamp", b"1893456000000", b"created_at", b"2030-01-01T00:00:00.000000Z"]
    rows = [
        only("arq", b"1", b"arq:job:", job, b"1893456000000", -2, b""),
        only("bullmq", b"bull:q", b"1", b"wait", b"", -2, sent),
        only("rq", b"1", b"", b"", sent, []),
        only("dramatiq", b"1", b'{"message_timestamp": 1893456000000}', b"queued"),
    ]
    assert [row["start_after"] for row in rows] == [None] * 4
    assert not any("created_at" in row for row in rows)


def sidekiq(job: str, **more: Any) -> bytes:
    return json.dumps({"jid": job, "class": "Charge", "args": ["a"], "retry": 2, **more}).encode()


def test_a_job_of_sidekiq_stands_in_a_queue_waits_for_its_time_or_is_dead() -> None:
    assert only("sidekiq", b"queue", b"", sidekiq("1"))["status"] == "PENDING"
    retry = only("sidekiq", b"retry", b"1893456005.5", sidekiq("1"))
    assert (retry["status"], retry["start_after"].second, retry["input"]) == ("PENDING", 5, [["a"], "1"])
    dead = only("sidekiq", b"dead", b"1893456005.5", sidekiq("1", error_message="no"))
    assert (dead["status"], dead["error"]) == ("FAILED", "no")


def test_a_job_that_is_taken_out_of_redis_is_over_when_its_process_asks_again_and_never_if_that_died() -> None:
    taken, there = TakenJobs(b"BRPOP"), list(BROKERS["sidekiq"].rows([[b"queue", b"", sidekiq("1")]]))
    fetched = b"*2\r\n$7\r\nqueue:q\r\n$9\r\n" + sidekiq("1") + b"\r\n"

    def status() -> str:
        (row,) = taken.rows([])
        return str(row["status"])

    assert taken.rows(there) == there
    assert not taken.asks("first life of w1")
    taken.take("first life of w1", fetched)
    assert status() == "PROCESSING"
    assert not taken.asks("second life of w1")
    taken.take("second life of w1", b"*-1\r\n")
    assert status() == "PROCESSING", "whoever had it is dead"
    assert taken.rows(there) == there, "it was put back"
    taken.take("w2", fetched)
    assert taken.asks("w2")
    assert status() == "COMPLETED"
    assert taken.rows(there) == there, "its retry is due"
    assert status() == "PROCESSING", "what took it out of the retries has not put it into its queue"
