"""moto's SQS as a service of ours: both protocols, our clock, and what becomes of a message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from job_harness.errors import UsageError
from job_harness.worlds.sqs.service import SqsAnswer, SqsQueues, SqsRequest, SqsService

pytest.importorskip("moto", reason="moto is not installed: pip install 'job-harness[sqs]'")
POLICY = json.dumps({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:dead", "maxReceiveCount": 2})
QUEUES = SqsQueues("us-east-1", {"dead": {}, "work": {"VisibilityTimeout": "30", "RedrivePolicy": POLICY}})


@pytest.fixture
def service() -> SqsService:
    return SqsService(QUEUES)


def ask(service: SqsService, action: str, **arguments: Any) -> Any:
    answer = answered(service, action, **{"QueueUrl": "http://host/123456789012/work", **arguments})
    return json.loads(answer.body or b"{}") if answer.status == 200 else answer.status


def answered(service: SqsService, action: str, **arguments: Any) -> SqsAnswer:
    headers = {"host": "host", "x-amz-target": f"AmazonSQS.{action}", "content-type": "application/x-amz-json-1.0"}
    return service.answer(SqsRequest.read("/", headers, json.dumps(arguments).encode()))


def states(service: SqsService) -> list[tuple[int, bool, bool, bool]]:
    return [(each.receives, each.is_held, each.is_dead, each.deleted_at is not None) for each in service.messages()]


def test_a_message_is_seen_from_its_sending_to_its_end_and_its_visibility_ends_by_our_clock(
    service: SqsService,
) -> None:
    ask(service, "SendMessage", MessageBody="a")
    assert states(service) == [(0, False, False, False)]
    (received,) = ask(service, "ReceiveMessage")["Messages"]
    assert states(service) == [(1, True, False, False)]
    service.set_now(30_000)
    assert "Messages" not in ask(service, "ReceiveMessage")
    assert service.next_visible("work") == 1
    service.set_now(30_001)
    assert states(service) == [(1, True, False, False)], "time alone hands nothing back"
    assert ask(service, "ReceiveMessage")["Messages"][0]["MessageId"] == received["MessageId"]
    assert states(service) == [(2, True, False, False)]
    before = service.changes
    ask(service, "DeleteMessage", ReceiptHandle=received["ReceiptHandle"])
    assert states(service) == [(2, True, False, True)]
    assert service.changes > before


def test_a_message_that_is_handed_back_waits_and_one_received_too_often_is_dead(service: SqsService) -> None:
    ask(service, "SendMessage", MessageBody="a")
    for receives in (1, 2):
        (received,) = ask(service, "ReceiveMessage")["Messages"]
        ask(service, "ChangeMessageVisibility", ReceiptHandle=received["ReceiptHandle"], VisibilityTimeout=0)
        assert states(service) == [(receives, False, False, False)]
        service.set_now(receives)
    before = service.changes
    assert "Messages" not in ask(service, "ReceiveMessage")
    assert states(service) == [(2, False, True, False)]
    assert service.changes > before, "an empty answer changed something"


def test_each_run_draws_the_same_ids_and_begins_with_its_queues_empty(service: SqsService) -> None:
    told = []
    for _ in range(2):
        service.set_now(1000)
        told.append((ask(service, "SendMessage", MessageBody="a"), ask(service, "ReceiveMessage")))
        ask(service, "PurgeQueue")
        assert states(service) == [], "what is purged was not deleted by a worker"
        service.renew()
    assert told[0] == told[1]


def test_the_older_protocol_is_answered_in_kind(service: SqsService) -> None:
    body = b"Action=SendMessage&MessageBody=a&Version=2012-11-05"
    headers = {"host": "host", "content-type": "application/x-www-form-urlencoded"}
    request = SqsRequest.read("/123456789012/work", headers, body)
    assert (request.action, request.queue) == ("SendMessage", "work")
    answer = service.answer(request)
    assert answer.status == 200
    assert answer.body.startswith(b"<")
    receive = SqsRequest.read(request.path, headers, b"Action=ReceiveMessage&WaitTimeSeconds=20&Version=2012-11-05")
    assert service.wait_of(receive) == 20
    assert b"ReceiptHandle" in service.answer(receive.at_once()).body


def test_what_is_no_request_of_sqs_is_refused_by_name(service: SqsService) -> None:
    with pytest.raises(UsageError, match="names no action"):
        SqsRequest.read("/", {}, b"")
    for body in (b"{", b"[1]", b"1"):
        with pytest.raises(UsageError, match="neither JSON nor a query"):
            SqsRequest.read("/", {"x-amz-target": "AmazonSQS.SendMessage"}, body)
    with pytest.raises(UsageError, match="moto's SQS has no Shout"):
        answered(service, "Shout")
    for wrong in ("x", -1, 1.5, [1], 21):
        with pytest.raises(UsageError, match=r"WaitTimeSeconds .* Amazon takes whole numbers from 0 to 20"):
            ask(service, "ReceiveMessage", WaitTimeSeconds=wrong)
    with pytest.raises(UsageError, match="does not understand this SendMessage"):
        ask(service, "SendMessage")
    assert ask(service, "DeleteMessage", ReceiptHandle="of nothing") == 400


def test_queues_limit_receives_only_where_each_that_is_worked_on_does() -> None:
    assert QUEUES.limits_receives
    assert not SqsQueues("us-east-1", {**QUEUES.attributes, "more": {}}).limits_receives
    assert not SqsQueues("us-east-1", {}).limits_receives


def test_what_is_beyond_amazons_limits_is_answered_with_an_error(service: SqsService) -> None:
    entry = {"MessageBody": "x" * 200_000}
    assert ask(service, "SendMessage", MessageBody="x" * ((1 << 20) + 1)) == 400
    assert ask(service, "SendMessageBatch", Entries=[{"Id": str(n), **entry} for n in range(6)]) == 400
    assert ask(service, "SendMessageBatch", Entries=[{"Id": str(n), "MessageBody": "x"} for n in range(11)]) == 400
    assert ask(service, "ReceiveMessage", MaxNumberOfMessages=11) == 400
    assert states(service) == []


@pytest.mark.parametrize(("queue", "deletes"), [("work", True), ("work.fifo", False)])
def test_a_receipt_handle_of_a_fifo_queue_ends_with_the_visibility(queue: str, deletes: bool) -> None:
    fifo = {"FifoQueue": "true", "ContentBasedDeduplication": "true", "VisibilityTimeout": "30"}
    service = SqsService(SqsQueues("us-east-1", {"work": {"VisibilityTimeout": "30"}, "work.fifo": fifo}))
    url = {"QueueUrl": f"http://host/123456789012/{queue}"}
    ask(service, "SendMessage", MessageBody="a", **url, **({} if deletes else {"MessageGroupId": "g"}))
    (received,) = ask(service, "ReceiveMessage", **url)["Messages"]
    service.set_now(30_001)
    ask(service, "ReceiveMessage", **url)
    ask(service, "DeleteMessage", ReceiptHandle=received["ReceiptHandle"], **url)
    assert states(service) == [(2, True, False, deletes)]


def test_two_services_in_one_process_have_clocks_and_queues_of_their_own(service: SqsService) -> None:
    other = SqsService(SqsQueues("us-east-1", {"work": {"VisibilityTimeout": "5"}}))
    for each in (service, other):
        ask(each, "SendMessage", MessageBody="a")
        assert len(ask(each, "ReceiveMessage")["Messages"]) == 1
    service.set_now(30_001)
    assert [len(ask(each, "ReceiveMessage").get("Messages", [])) for each in (other, service)] == [0, 1]
    assert (states(service), states(other)) == ([(2, True, False, False)], [(1, True, False, False)])
