"""What a campaign comes to on right, wrong and misbehaving targets, and how it tells what it met."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import types
from dataclasses import replace
from typing import Any

import pytest

from job_harness.core.history.answers import ENOUGH, DeclaredPart, VerbAnswers
from job_harness.core.history.event import Event, Fault, Observed, Return
from job_harness.core.history.jsonl import dump_history, without_reason
from job_harness.core.history.outcome import Outcome, OutcomeKind, done
from job_harness.core.interruption import Terminated
from job_harness.core.invariants import ANOMALIES, Guarantee
from job_harness.core.invariants.catalogue import WHOLE, level
from job_harness.core.invariants.effects import at_most_once
from job_harness.core.model.duration import MINUTE
from job_harness.core.model.job import JobId, JobView, Json
from job_harness.core.model.lifecycle import Status
from job_harness.core.port import Capabilities, Claim, Contract, JobRequest
from job_harness.core.run.session import Limits, Session
from job_harness.core.run.verdict import Verdict
from job_harness.core.scenario.job_plan import Ending
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.core.sim.request import Point
from job_harness.doors.cli.campaign_screen import level_lines
from job_harness.engines.memory import ClaimRules, MemoryEngine, MemoryQueue
from job_harness.errors import ExitCode, UsageError
from job_harness.review.audit.evidence import blank
from job_harness.search.coverage import SITUATIONS, Cell, Coverage, declared_situations, missing_situations
from job_harness.search.finding import Campaign, first_difference
from job_harness.search.sampling import Sampler, run_seed
from job_harness.search.scope.bounds import Scope
from job_harness.search.scope.search import Explorer, statement
from job_harness.search.watchdog import StepHung, StepWatchdog
from job_harness.search.workload import drawable
from job_harness.search.wrong_queues import CATALOGUE


def campaign(queue: type[MemoryQueue] = MemoryQueue, *, runs: int = 120, **how: Any) -> Campaign:
    return Sampler(MemoryEngine(queue), **how).explore(seed=1, runs=runs)


@pytest.mark.long
@pytest.mark.slow
def test_a_campaign_on_the_right_queue_passes_and_tells_what_it_met() -> None:
    done = campaign(runs=400)
    assert done.verdict is Verdict.PASS
    assert done.coverage.observed == 100
    assert done.coverage.situations["two workers claim at one instant"] > 20
    assert any(cell.status == "PROCESSING" and cell.fault == "crash" for cell in done.coverage.faults)
    novelty = done.coverage.novelty()
    assert novelty.last == 10
    assert 0 < novelty.new <= 10
    assert novelty.states > 100
    declared = {item.name: item.share for item in SITUATIONS}
    assert declared.keys() >= done.coverage.situations.keys()
    assert {name for name, share in declared.items() if share >= 0.01} <= done.coverage.situations.keys()


def test_what_is_left_out_of_the_workload_is_not_drawn_and_its_name_must_exist() -> None:
    out = drawable(("raises NUL", "schedules", "calendars"))
    sampler = Sampler(MemoryEngine(), left_out=out)
    plans = [plan for seed in range(60) for plan in sampler.session(seed).scenario.jobs]
    assert not any(plan.scheduled or Ending.RAISE_NUL in plan.outcomes for plan in plans)
    assert any(Ending.RAISE_SURROGATE in plan.outcomes for plan in plans)

    with pytest.raises(UsageError, match=r"a workload has no part called 'raises nul' .did you mean 'raises NUL'"):
        drawable(["raises nul"])
    with pytest.raises(UsageError, match="every workload needs jobs that succeed"):
        drawable(["succeeds"])


def test_a_situation_that_never_occurs_fails_a_campaign_that_was_long_enough_to_expect_it() -> None:
    everything = Capabilities(**dict.fromkeys(Capabilities.names(), True))
    seen = {item.name for item in SITUATIONS} - {"a lease runs out"}
    assert missing_situations(seen, capabilities=everything, observed=100) == ()
    assert [item.name for item in missing_situations(seen, capabilities=everything, observed=400)] == [
        "a lease runs out"
    ]
    assert missing_situations((), capabilities=Capabilities(), observed=10**6)
    assert Campaign("memory", 0, runs=400, missing=SITUATIONS[:1]).verdict is Verdict.FAIL


@pytest.mark.slow
class DiceRules(ClaimRules):
    """Breaks no rule, and reads its clock, by a counter that no run resets, now and then a microsecond late."""

    asked = itertools.count()

    def take(self, row: JobView, worker: str, now: int) -> Claim:
        return super().take(row, worker, now + (next(self.asked) % 5 == 3))


class Dice(MemoryQueue):
    rules = (DiceRules,)


class Talkative(MemoryQueue):
    """Gives each refusal a number that no run resets, as an error that names a process or an address does."""

    asked = itertools.count()

    def _refuse(self, outcome: Outcome) -> Outcome:
        refused = outcome.kind is OutcomeKind.REFUSED
        return outcome._replace(reason=f"{outcome.reason} ({next(self.asked)})") if refused else outcome

    def enqueue(self, request: JobRequest) -> Outcome:
        return self._refuse(super().enqueue(request))

    def complete(self, claim: Claim, output: Json) -> Outcome:
        return self._refuse(super().complete(claim, output))


class Late(MemoryQueue):
    """Changes its mind after a while."""

    asked = itertools.count()

    def claim(self, worker: str, limit: int) -> Outcome:
        return super().claim(worker, 1 if next(self.asked) > 40 else limit)


def test_a_target_that_is_not_deterministic_never_passes_and_its_first_differing_event_is_named() -> None:
    done = campaign(Dice, runs=320)
    assert done.verdict is Verdict.INCONCLUSIVE
    assert done.unsteady is not None
    assert "First difference, event" in str(done.unsteady)
    assert done.unsteady.one != done.unsteady.other


def test_runs_that_differ_only_in_the_text_of_a_refusal_are_one_run() -> None:
    sampler = Sampler(MemoryEngine(Talkative))
    refusing = next(seed for seed in range(60) if any(map(_is_worded, sampler.sample(seed).history)))
    runs = [sampler.sample(refusing).history for _ in range(2)]
    assert dump_history(runs[0]) != dump_history(runs[1])
    assert first_difference(runs[0].events, runs[1].events) is None
    lines = [[without_reason(line) for line in dump_history(run).splitlines()] for run in runs]
    assert lines[0] == lines[1]
    event = next(filter(_is_worded, runs[0].events))
    assert isinstance(event, Return)
    other = event._replace(outcome=Outcome.refused(event.outcome.reason, "another value"))
    assert first_difference([event], [other]) is not None


def _is_worded(event: Event) -> bool:
    return (
        isinstance(event, Return)
        and event.outcome.kind is OutcomeKind.REFUSED
        and event.verb in ("enqueue", "complete")
    )


@pytest.mark.long
@pytest.mark.slow
def test_a_target_that_carries_state_from_run_to_run_is_noticed_at_the_end() -> None:
    found = None
    for seed in range(25, 60):  # The first is one that shows it today.
        Late.asked = itertools.count()
        sampler = Sampler(MemoryEngine(Late))
        done = sampler.explore(seed=seed, runs=8)
        if done.unsteady is not None and done.unsteady.later:
            found = done
            break
    assert found is not None
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "at the end of the campaign" in str(found.unsteady)


def test_histories_that_differ_are_told_apart_at_their_first_difference() -> None:
    one = [Fault(0, "w1", "crash", {}), Fault(5, "w1", "pause", {"for": 1})]
    assert first_difference(list(one), list(one)) is None
    assert first_difference(list(one), [one[0], one[1]._replace(data={"for": 2})]) == (
        1,
        "5us fault w1 pause: data {'for': 1}",
        "data {'for': 2}",
    )
    assert first_difference(list(one), one[:1]) == (1, "5us fault w1 pause", "no event")
    seen = [
        Observed(0, "w1", "claim", "a", None, blank("a", Status.PROCESSING, worker=f"host-{pid}"), 0) for pid in (1, 2)
    ]
    assert first_difference([*seen[:1]], [*seen[1:]]) == (
        0,
        "0s observed w1 claim a: after worker 'host-1'",
        "after worker 'host-2'",
    )


class Hangs(MemoryQueue):
    """Never ends a completion."""

    def complete(self, claim: Claim, output: Any) -> Outcome:
        while True:
            pass


class Quits(MemoryQueue):
    """Ends the interpreter from inside a verb."""

    def claim(self, worker: str, limit: int) -> Outcome:
        sys.exit(3)


class Restless(MemoryQueue):
    """Breaks where it is not expected."""

    def jobs(self) -> Any:
        raise RuntimeError("odd place")


@pytest.mark.slow
def test_a_verb_that_hangs_is_named_and_ends_the_campaign() -> None:
    with StepWatchdog(0.2) as watchdog:
        done = campaign(Hangs, watchdog=watchdog)
    assert done.trouble is not None
    assert "the verb complete of" in done.trouble.message
    assert done.trouble.code is ExitCode.FAIL
    assert done.verdict is Verdict.FAIL


HANGS_FOR_GOOD = """
import signal, time
from job_harness.search.watchdog import StepWatchdog
from job_harness.core.printable import printable_streams
from job_harness.search import watchdog
watchdog.LAST_RESORT_SECONDS = 0.2
with printable_streams(), StepWatchdog(0.05):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(20)
"""


def test_what_cannot_be_interrupted_is_ended_under_a_command_too() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS_FOR_GOOD], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert 'File "<string>", line 9' in ended.stderr


def test_runs_that_are_looked_at_at_the_same_step_one_after_the_other_do_not_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = itertools.count(step=0.6)  # Nothing is computed between two, so all the time counts.
    monkeypatch.setattr("job_harness.search.watchdog.real_seconds", lambda: next(looks))
    watchdog = StepWatchdog(1.0)
    for _ in range(20):
        watchdog.opening()
        watchdog.look(0, None)
        watchdog.done()
    watchdog.opening()
    for _ in range(2):
        watchdog.look(0, None)
    with pytest.raises(StepHung, match="opening a queue did not end"):
        watchdog.look(0, None)


def test_a_step_that_stands_in_an_attached_debugger_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = itertools.count(step=0.6)
    monkeypatch.setattr("job_harness.search.watchdog.real_seconds", lambda: next(looks))
    monkeypatch.setitem(sys.modules, "pydevd", types.SimpleNamespace(get_global_debugger=object))
    watchdog = StepWatchdog(1.0)
    watchdog.opening()
    for _ in range(20):
        watchdog.look(0, None)
    monkeypatch.delitem(sys.modules, "pydevd")
    watchdog.look(0, None)
    with pytest.raises(StepHung, match="opening a queue did not end"):
        watchdog.look(0, None)


@pytest.mark.parametrize(("queue", "named"), [(Quits, "SystemExit: 3"), (Restless, "RuntimeError: odd place")])
def test_a_target_that_breaks_ends_the_campaign_and_says_where(queue: type[MemoryQueue], named: str) -> None:
    done = campaign(queue)
    assert done.trouble is not None
    assert named in done.trouble.message
    assert "test_campaign.py" in done.trouble.message
    assert done.verdict is Verdict.INCONCLUSIVE


class Closed(MemoryQueue):
    """Takes nothing."""

    def enqueue(self, request: JobRequest) -> Outcome:
        return Outcome.refused("404 no such route")


def test_a_campaign_in_which_no_job_was_ever_seen_is_no_pass() -> None:
    unscheduled = drawable(("schedules", "calendars"))
    done = campaign(Closed, runs=20, looking_for=frozenset({"job_stuck"}), left_out=unscheduled)
    assert done.verdict is Verdict.INCONCLUSIVE
    assert done.trouble is not None
    assert done.trouble.message == "no job was seen in any of the 6 runs that were looked at"


class CancelRaises(MemoryQueue):
    """Declares a cancel that was never written."""

    def cancel(self, job: str) -> Outcome:
        raise NotImplementedError("cancel")


class RetryRefuses(MemoryQueue):
    """Has a retry that finds no job."""

    def retry(self, job: str) -> Outcome:
        return Outcome.refused("unknown job")


def test_a_verb_that_raises_in_every_call_is_named_and_the_search_is_no_pass() -> None:
    done = campaign(CancelRaises, runs=40)
    assert done.verdict is Verdict.INCONCLUSIVE
    assert done.trouble is not None
    assert re.fullmatch(
        r"cancel never succeeded in \d+ calls; it raised NotImplementedError: cancel", done.trouble.message
    )


@pytest.mark.parametrize(
    ("queue", "scope", "told"),
    [
        (CancelRaises, Scope(workers=1, jobs=1, cancels=1, stalls=0), "cancel never succeeded in "),
        (RetryRefuses, Scope(workers=1, jobs=1, cancels=1, retries=1, stalls=0), "retry never succeeded in "),
        (MemoryQueue, Scope(workers=1, jobs=1, retries=1, stalls=0), "retry never succeeded in "),
    ],
)
def test_a_scope_in_which_a_verb_never_succeeds_is_inconclusive_by_name(
    queue: type[MemoryQueue], scope: Scope, told: str
) -> None:
    explorer = Explorer(MemoryEngine(queue), scope)
    explorer.run()
    assert explorer.complete
    assert not explorer.sightings
    assert statement(explorer, 1.0)[0].startswith("inconclusive: no anomaly on memory within the scope, but " + told)


def test_what_a_target_says_of_itself_and_no_state_of_a_scope_comes_to_is_said() -> None:
    engine = MemoryEngine()
    never = DeclaredPart("settings: stuck_timeout", lambda event: False, "search longer")
    seen = DeclaredPart("a send", lambda event: type(event) is Return, "send one")
    engine.info = replace(engine.info, declared=(seen, never))
    explorer = Explorer(engine, Scope(workers=1, jobs=1, stalls=0))
    explorer.run()
    assert statement(explorer, 1.0)[0].startswith("complete: no anomaly")
    assert "  Not reached within this scope, so not judged: settings: stuck_timeout." in statement(explorer, 1.0)


def test_a_declared_part_that_no_run_came_to_is_named_and_the_search_is_no_pass() -> None:
    engine = MemoryEngine()
    never = DeclaredPart("cron: yearly", lambda event: False, "search longer")
    only_said = DeclaredPart("settings: lease", lambda event: False, "search longer", owed=False)
    seen = DeclaredPart("a send", lambda event: type(event) is Return, "send one")
    engine.info = replace(engine.info, declared=(seen, only_said))
    assert Sampler(engine).explore(seed=0, runs=12).verdict is Verdict.PASS
    engine.info = replace(engine.info, declared=(seen, only_said, never))
    done = Sampler(engine).explore(seed=0, runs=12)
    assert done.verdict is Verdict.INCONCLUSIVE
    assert done.trouble is not None
    assert done.trouble.message == "cron: yearly: no run reached it, so it was not judged (search longer)"


def test_a_verb_that_raised_and_was_refused_is_told_with_both() -> None:
    answers = VerbAnswers()
    outcomes = Outcome.refused("409 too late"), Outcome.unknown("503 try again")
    answers.take(Return(0, "client-a", "retry", "a", None, outcome, 1, True) for outcome in outcomes)
    told = "retry never succeeded in 2 calls; it raised 503 try again, or was refused: 409 too late"
    assert list(answers.unproven()) == [told]


def test_a_verb_that_is_refused_now_and_then_is_no_news() -> None:
    assert campaign(runs=12).trouble is None
    done = campaign(RetryRefuses, runs=300)
    assert done.trouble is not None
    assert done.trouble.message.startswith("retry never succeeded in ")


class TakesBackInClaim(MemoryQueue):
    """Looks after what its workers left where the next one claims."""

    capabilities: Capabilities = replace(MemoryQueue.capabilities, takes_back_in_claim=True)

    def claim(self, worker: str, limit: int) -> Outcome:
        self.expire()
        return super().claim(worker, limit)


@pytest.mark.long
def test_a_dead_letter_of_a_job_that_a_claim_failed_is_no_second_one() -> None:
    done = campaign(TakesBackInClaim, runs=400, looking_for=frozenset({"dead_letter_doubled", "dead_letter_missing"}))
    assert done.found == frozenset()


class LedByItsTicks(MemoryQueue):
    """One scheduler leads as long as it looks every two minutes; the next leader waits as long before it acts."""

    leader, sign, since = "", -MINUTE * 60, 0

    def tick(self, instance: str) -> Outcome:
        now = self.now(instance)
        if now - self.sign > 2 * MINUTE:
            self.leader, self.since = instance, now
        if self.leader != instance:
            return Outcome.refused("another one leads")
        self.sign = now
        return super().tick(instance) if now - self.since > 2 * MINUTE else done([])


@pytest.mark.parametrize(("alive_for", "missed"), [(None, True), (MINUTE, False)])
def test_a_look_that_is_a_sign_of_life_is_not_left_out(alive_for: int | None, missed: bool) -> None:
    engine = MemoryEngine(LedByItsTicks, contract=Contract(alive_for=alive_for))
    text = "format: 1\njobs: {a: {every: 1h, count: 3, scheduled: true}}\nsteps: [run until idle]\n"
    assert ("slot_missed" in Session(read_scenario_text(text), engine=engine).run().found) is missed


class Undated(MemoryQueue):
    """Does not show when a job may be deleted, so that maintenance never has anything to purge."""

    def jobs(self) -> dict[JobId, JobView]:
        return {job: view._replace(expires_at=None) for job, view in super().jobs().items()}

    def purge(self) -> Outcome:
        raise AssertionError("it has nothing to do")


@pytest.mark.parametrize(("queue", "told"), [(Undated, "purge was never called, since no job"), (MemoryQueue, "")])
def test_a_purge_that_nothing_ever_calls_is_no_pass(queue: type[MemoryQueue], told: str) -> None:
    done = Sampler(MemoryEngine(queue)).explore(seed=1, runs=8)
    assert done.verdict is (Verdict.INCONCLUSIVE if told else Verdict.PASS)
    assert (told in done.trouble.message) if done.trouble is not None else not told


@pytest.mark.parametrize(("name", "told"), [("paid", "paid never happened"), ("started", "")])
def test_a_promise_about_a_side_effect_that_never_happened_is_no_pass(name: str, told: str) -> None:
    engine = MemoryEngine()
    engine.info = replace(engine.info, promises=(at_most_once(name, per=["order"]),))
    done = Sampler(engine).explore(seed=1, runs=4)
    trouble = "" if done.trouble is None else done.trouble.message
    assert (told in trouble) if told else ("never happened" not in trouble)
    assert (done.verdict is Verdict.INCONCLUSIVE) or not told


class Busy(MemoryQueue):
    """Is at work for a good while in each claim."""

    def claim(self, worker: str, limit: int) -> Any:
        for _ in range(20):
            yield Point("looking")
        return super().claim(worker, limit)


def test_a_run_that_reaches_its_limit_is_counted_and_the_next_ones_are_done() -> None:
    sampler = Sampler(MemoryEngine(Busy), limits=Limits(steps=400))
    ends = [sampler.sample(run_seed(1, number)).cut for number in range(20)]
    assert set(ends) == {True, False}

    done = Sampler(MemoryEngine(Busy), limits=Limits(steps=400)).explore(seed=1, runs=20)

    assert (done.runs, done.cut) == (20, ends.count(True))
    assert done.trouble is None
    assert done.verdict is Verdict.INCONCLUSIVE, "what came after the limit was not judged"


def test_a_campaign_none_of_whose_runs_came_to_its_end_is_inconclusive() -> None:
    done = campaign(runs=6, limits=Limits(steps=8))
    assert done.cut == 6
    assert done.verdict is Verdict.INCONCLUSIVE


@pytest.mark.slow
def test_keep_going_tells_of_each_anomaly_once() -> None:
    engine = CATALOGUE["error-lost"].engine("memory")
    done = Sampler(engine, keep_going=True).explore(seed=1, runs=25)
    names = [finding.anomaly for finding in done.findings]
    assert done.runs == 25
    assert len(names) == len(set(names))
    assert CATALOGUE["error-lost"].anomaly in names
    for finding in done.findings:
        assert finding.anomaly in finding.run.found


@pytest.mark.slow
def test_what_was_found_before_an_interruption_is_kept() -> None:
    def watch(done: int) -> bool:
        if done == 20:
            raise Terminated(between_runs=True)
        return True

    engine = CATALOGUE["error-lost"].engine("memory")
    sampler = Sampler(engine, keep_going=True)
    done = sampler.explore(seed=1, runs=30, watch=watch)
    assert done.runs == 20
    assert done.interrupted
    assert done.findings


def test_coverage_is_the_same_however_the_runs_are_split() -> None:
    runs = [Sampler(MemoryEngine()).sample(seed) for seed in range(20)]
    whole = Coverage()
    parts = [Coverage(), Coverage()]
    for number, run in enumerate(runs):
        whole.observe(run.history)
        parts[number // 10].observe(run.history)
    parts[0].add(parts[1])
    assert parts[0] == whole
    assert parts[0].novelty() == whole.novelty()


def test_a_fault_is_counted_by_the_job_and_the_position_that_it_struck() -> None:
    coverage = Coverage()
    for seed in range(60):
        coverage.observe(Sampler(MemoryEngine()).sample(seed).history)
    assert coverage.faults[Cell("PROCESSING", "running", "crash")] > 0
    assert coverage.faults[Cell("PROCESSING", "claim", "crash")] == 0
    assert coverage.faults[Cell("-", "time", "stopped")] == 0  # which a shutdown leads to
    assert any(cell.fault == "stop" for cell in coverage.faults)


def anomaly_of(guarantee: Guarantee) -> str:
    return next(name for name, (_, kind) in ANOMALIES.items() if kind.guarantee is guarantee)


def test_the_level_is_named_by_the_gravest_guarantee_that_broke() -> None:
    told = {guarantee: level([anomaly_of(guarantee)]) for guarantee in Guarantee if guarantee is not Guarantee.OWN}
    assert told[Guarantee.AT_LEAST_ONCE] == "jobs may be lost or never end"
    assert told[Guarantee.FENCING] == "at least once and one at a time, but not fenced"
    assert told[Guarantee.UNIQUENESS] == "at least once and fenced, but without unique keys"
    assert len(set(told.values())) == len(told)
    assert level([]) == WHOLE
    assert level(ANOMALIES) == "jobs may be lost or never end"


def test_breaches_below_the_ladder_are_listed() -> None:
    broken = [anomaly_of(Guarantee.RETENTION), anomaly_of(Guarantee.UNIQUENESS)]
    assert level(broken) == "at least once and fenced, but without unique keys and retention"


def test_what_a_finding_leaves_is_said_of_so_many_runs() -> None:
    found = [anomaly_of(Guarantee.ONE_AT_A_TIME)]
    assert [line.text for line in level_lines(level(found), found, 4)] == [
        "Guarantees: at least once with correct statuses, but two workers may run a job",
        "            at once, as far as 4 runs show.",
    ]
    assert level_lines(level(["orphan_row"]), ["orphan_row"], 1)[-1].text.endswith(": the search ended with it.")
    assert [line.text for line in level_lines(level([]), [], 4)] == ["Guarantees: none was seen to break."]


def test_an_application_is_asked_for_no_situation_of_verbs() -> None:
    names = {item.name for item in declared_situations(MemoryEngine().info.capabilities, stepwise=True)}

    assert "a lease runs out" in names
    assert not any("claim" in name or "heartbeat" in name or "stale" in name for name in names)


@pytest.mark.parametrize(("calls", "named"), [(ENOUGH - 1, False), (ENOUGH, True)])
def test_a_verb_that_is_refused_in_every_call_of_a_search_is_named_from_so_many_calls_on(
    calls: int, named: bool
) -> None:
    answers = VerbAnswers()
    refused = Outcome.refused("it changed no row")
    answers.take([Return(0, "client", "cancel", "a", None, refused, number, answered=True) for number in range(calls)])
    assert [*answers.unproven(often=True)] == [
        f"cancel never succeeded in {calls} calls; it was refused: it changed no row"
    ] * named
