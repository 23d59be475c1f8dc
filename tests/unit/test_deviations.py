"""Which single deviation of an undisturbed run is tried first."""

from __future__ import annotations

from job_harness.core.faults import gravest_first, read_option
from job_harness.core.sim.choices import OTHERS_FIRST, Deviation, ListedGates
from job_harness.search.deviations import Gate, singles_first

CALL = tuple(map(read_option, ("crash", "crash after", "lose reply")))
WAIT = (*map(read_option, ("crash", "stand still half a timeout", "pause a lease + a retry")), OTHERS_FIRST)


def gates(*labels: str) -> list[Gate]:
    seen: dict[str, int] = {}
    listed = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        listed.append((label, seen[label], CALL if "complete" in label else WAIT))
    return listed


def tried(*labels: str) -> list[str]:
    return list(map(str, singles_first(gates(*labels), effects={"mailed"})))


def test_a_death_right_after_what_left_the_process_comes_first_and_one_right_before_it_soon() -> None:
    waits = ["worker-1 app.py:mail job-1"] * 20
    for leaves in ("mailed", "after enqueue scan", "reply of send()"):
        order = tried(*waits, f"worker-1 {leaves} job-1", *waits, "worker-1 complete job-1")
        assert order[0] == f"worker-1 {leaves} job-1 #1: crash"
        assert "worker-1 app.py:mail job-1 #20: crash" in order[:5]


def test_where_two_jobs_share_a_step_one_stands_still_there_before_other_waits_are_tried() -> None:
    order = tried(*["worker-1 app.py:other job-1"] * 30, "worker-1 app.py:add job-1", "worker-1 app.py:add job-2")
    assert order[0] == "worker-1 app.py:add job-1 #1: stand still half a timeout"


def test_one_stands_still_at_each_place_before_it_does_at_the_same_one_for_another_job() -> None:
    order = tried(*[f"worker-1 {step} job-{number}" for number in (1, 2, 3) for step in ("app.py:add", "mailed")])
    stands = [str(one).partition(" #")[0] for one in order if "stand still" in str(one)]
    assert stands[:2] == ["worker-1 mailed job-1", "worker-1 app.py:add job-1"]


def test_another_answer_from_outside_is_tried_among_the_first() -> None:
    answers = [Deviation(f"the model job-{number}", 1, "refuses") for number in (1, 2)]
    order = singles_first(gates(*["worker-1 mailed job-1"] * 30), effects={"mailed"}, answers=answers)
    assert set(answers) < set(order[:15])
    listed = ListedGates()
    assert [listed.pick("the model job-1", ("calls", "refuses")) for _ in range(2)] == ["calls", "calls"]
    assert listed.answers == [Deviation("the model job-1", nth, "refuses") for nth in (1, 2)]


def test_every_single_deviation_is_tried_once() -> None:
    listed = gates(
        "worker-1 mailed job-1", "worker-1 app.py:mail job-1", "maintenance rescue", "worker-1 complete job-1"
    )
    order = singles_first(listed, effects={"mailed"})
    offered = {(label, nth, option.words) for label, nth, options in listed for option in options}
    assert set(map(tuple, order)) == {one for one in offered if read_option(one[2]) in (*gravest_first(), OTHERS_FIRST)}
    assert len(order) == len(set(order))
