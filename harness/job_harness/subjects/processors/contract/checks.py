"""The checks of the contract: what a processor returns and leaves behind, and what more than one delivery comes to.

Each judges values that a probe knows. None runs a processor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from job_harness.core.model import canonical, json_problem
from job_harness.errors import did_you_mean
from job_harness.subjects.processors.contract.repetition import done_in, lost, outside, repeated
from job_harness.subjects.processors.contract.trial import (
    MOST_SHOWN,
    Check,
    CheckOutcome,
    ContractFinding,
    DeliveryEnding,
    Probe,
    TrialRecord,
    TriedDelivery,
    failed_unless_empty,
    inconclusive,
    not_applicable,
    passed,
)
from job_harness.subjects.processors.module_state import IN_MEMORY

TOO_SLOW = frozenset({"over time", "never", "spins"})


def succeeds(probe: Probe) -> ContractFinding:
    """Judge whether there is anything to judge."""
    if probe.good is not None:
        return passed()
    told = [f"{tried.about}: {tried.world.broken or tried.world.first.words}" for tried in probe.plain]
    return ContractFinding(
        CheckOutcome.INCONCLUSIVE, ("no declared input succeeded, so little can be said:", *told[:4])
    )


def process_survives(probe: Probe) -> ContractFinding:
    """Judge that the process lives on."""
    found = [f"{tried.about}: {tried.world.died}" for tried in _all(probe) if tried.world.died]
    found += [f"{tried.about}: {ending.told}" for tried, ending in _each(_all(probe)) if ending.how == "died"]
    return failed_unless_empty(found)


def never_blocks(probe: Probe) -> ContractFinding:
    """Judge that the event loop stays free."""
    found = [f"{tried.about}: {where}" for tried in _all(probe) for where in tried.world.blocked]
    found += [f"{tried.about}: {tried.world.hung}" for tried in _all(probe) if tried.world.hung]
    found += [f"{tried.about}: {ending.told}" for tried, ending in _each(_all(probe)) if ending.how == "blocked"]
    return failed_unless_empty(found)


def nothing_escapes(probe: Probe) -> ContractFinding:
    """Judge that no exception gets out on a declared input."""
    return failed_unless_empty([f"{tried.about}: {e.words}" for tried, e in _plain(probe) if e.how == "raised"])


def answers_job_result(probe: Probe) -> ContractFinding:
    """Judge that what comes back is a JobResult."""
    return failed_unless_empty([f"{tried.about}: {e.words}" for tried, e in _plain(probe) if e.how == "no result"])


def fits_jsonb(probe: Probe) -> ContractFinding:
    """Judge that output and error can be stored. An input that no queue could hold excuses its echo."""
    return failed_unless_empty(
        [
            f"{tried.about}: {ending.misfit}"
            for tried, ending in _answers(probe)
            if ending.misfit is not None and json_problem(tried.input) is None
        ]
    )


def failure_says_why(probe: Probe) -> ContractFinding:
    """Judge that a failure has a text."""
    failures = [(tried, ending) for tried, ending in _each(_all(probe)) if ending.success is False or ending.final]
    mute = [f"{tried.about}: success: false, error {ending.error!r}" for tried, ending in failures if _is_mute(ending)]
    if not failures:
        return inconclusive("it never failed, not even on a hostile input: no failure's text was seen")
    return failed_unless_empty(mute, f"{len(failures)} failures looked at")


def input_untouched(probe: Probe) -> ContractFinding:
    """Judge that the input is as it was."""
    return failed_unless_empty(
        [f"{tried.about}: {ending.mutated}" for tried, ending in _each(probe.plain) if ending.mutated]
    )


def ends_in_time(probe: Probe) -> ContractFinding:
    """Judge that a declared input takes less than the job timeout."""
    limit = probe.timeout_seconds
    late = [
        f"{tried.about}: not done after {limit:g} s of virtual time, the job timeout; {ending.told}{_silence(tried)}"
        if ending.how == "over time"
        else f"{tried.about}: {ending.told}"
        for tried, ending in _plain(probe)
        if ending.how in TOO_SLOW
    ]
    unseen = [f"{tried.about}: {tried.world.first.told}" for tried in probe.plain if not tried.world.endings]
    if unseen and not late:
        return inconclusive(*unseen)
    longest = max((ending.seconds for _, ending in _plain(probe)), default=0.0)
    return failed_unless_empty(late, f"the longest took {longest:g} s of virtual time, of {limit:g} s")


def _silence(tried: TriedDelivery) -> str:
    """Say of one that no server answered what it lacks: a timeout of its own would have ended it by now."""
    silent = any("has said nothing" in note for note in tried.world.notes)
    return "; no answer came, and the call has no timeout that is shorter than the job's" if silent else ""


def leaves_nothing(probe: Probe) -> ContractFinding:
    """Judge that nothing is left running, after its end."""
    return failed_unless_empty([f"{tried.about}: {leak}" for tried in probe.plain for leak in tried.world.leaks])


def hostile_inputs_fail_cleanly(probe: Probe) -> ContractFinding:
    """Judge what it does on invalid inputs, and does not do on others: that has its own check."""
    if not probe.hostile:
        return inconclusive("it ends on no declared input: no worse one was tried")
    usual = {ending.how for _, ending in _plain(probe)} | {"answered", "died", "blocked"}
    found = [
        f"{tried.about}: {ending.words}"
        for tried, ending in _each(probe.hostile)
        if ending.how not in usual and not ending.final and not tried.world.broken
    ]
    left_out = [words for how, words in _ELSEWHERE.items() if how in usual]
    leaks = [f"{tried.about}: {leak}" for tried in probe.hostile for leak in tried.world.leaks]
    if not any(tried.world.leaks for tried in probe.plain):
        found += leaks
    elif leaks:
        left_out.append(_LEAKS)
    return _unless_left_out(found, left_out, f"{len(probe.hostile)} hostile inputs")


_ELSEWHERE: Final = {
    "raised": "that it raises, as on declared inputs: see nothing_escapes",
    "no result": "what it returns, as on declared inputs: see answers_job_result",
    **dict.fromkeys(TOO_SLOW, "how long it takes, as on declared inputs: see ends_in_time"),
}
_LEAKS: Final = "what it leaves running, as on declared inputs: see leaves_nothing_running"


def _unless_left_out(found: list[str], left_out: list[str], *notes: str) -> ContractFinding:
    """Judge by what was found; what another check has to say is not passed by this one, waived there or not."""
    if found or not left_out:
        return failed_unless_empty(found, *notes)
    return inconclusive(*(f"not judged: {each}" for each in dict.fromkeys(left_out)))


def stops_when_cancelled(probe: Probe) -> ContractFinding:
    """Judge that a cancelled processor ends soon and leaves nothing running."""
    if probe.runner.abilities.cancel is not None:
        return not_applicable(probe.runner.abilities.cancel)
    found: list[str] = []
    left_out: list[str] = []
    stopped = 0
    usual = any(tried.world.leaks for tried in probe.plain)  # That has its own check.
    for at, world in probe.cancelled:
        ending = world.first
        where = f"cancelled at moment {at}, {ending.place}"
        if world.broken:
            found.append(f"{where}: {world.broken}")
        elif ending.how in TOO_SLOW:
            found.append(f"{where}: it did not stop; {ending.told}")
        found += [f"{where}: {leak}" for leak in world.leaks if not usual]
        left_out += [_LEAKS for _ in world.leaks if usual]
        stopped += ending.stopped_after is not None
    if not stopped and not found:
        return not_applicable("it never waits, so that nothing can be cancelled")
    return _unless_left_out(found, left_out, f"cancelled at {probe.coverage(len(probe.cancelled), first=1)}")


def _is_mute(ending: DeliveryEnding) -> bool:
    return not (ending.error or "").strip()


def _each(tried: list[TriedDelivery]) -> list[tuple[TriedDelivery, DeliveryEnding]]:
    return [(each, ending) for each in tried for ending in each.world.endings]


def _all(probe: Probe) -> list[TriedDelivery]:
    return [*probe.plain, *probe.hostile]


def _plain(probe: Probe) -> list[tuple[TriedDelivery, DeliveryEnding]]:
    return _each(probe.plain)


def _answers(probe: Probe) -> list[tuple[TriedDelivery, DeliveryEnding]]:
    return [(tried, ending) for tried, ending in _each(_all(probe)) if ending.how == "answered"]


def _check(
    id: str,
    sentence: str,
    repair: str,
    judge: Callable[[Probe], ContractFinding],
    *,
    needs: bool = False,
    typescript: str = "",
) -> Check:
    return Check(id, sentence, repair, judge, needs, typescript)


ANSWERS: Final = (
    _check(
        "declared_input_succeeds",
        "It succeeds on a declared input: otherwise the other checks mean nothing.",
        "Correct the example, or provide what the processor needs (its error says what).",
        succeeds,
    ),
    _check(
        "process_survives",
        "It never ends or kills the process that it runs in.",
        "Return JobResult(success=False, error=...) instead of ending the process, and limit the memory it allocates.",
        process_survives,
        typescript="Return { success: false, error } instead of process.exit(), await every promise, and limit memory.",
    ),
    _check(
        "never_blocks",
        "A coroutine never blocks the event loop: heartbeats would stop, and the lease of every job would run out.",
        "Await asyncio.sleep and asynchronous clients, or hand the work to asyncio.to_thread.",
        never_blocks,
        typescript="Await what takes long, or hand the work to a worker thread.",
    ),
    _check(
        "nothing_escapes",
        "On a declared input no exception escapes from it.",
        "Catch it and return JobResult(success=False, error=str(error)).",
        nothing_escapes,
        typescript="Catch it and return { success: false, error: String(error) }.",
    ),
    _check(
        "answers_job_result",
        "It always returns a JobResult, or a dict with the same keys, with success True or False.",
        "Return JobResult(success=True, output=...) or JobResult(success=False, error='...') on every path.",
        answers_job_result,
        typescript='Return { success: true, output } or { success: false, error: "..." } on every path.',
    ),
    _check(
        "fits_jsonb",
        "PostgreSQL can store its output (JSONB) and its error (text).",
        "Convert it to JSON before you return it: no NUL, no lone surrogate, no NaN, no cycle, nothing endless.",
        fits_jsonb,
        typescript="Convert it to JSON before you return it: no NUL, NaN, BigInt, function or Map, nothing cyclic.",
    ),
    _check(
        "failure_says_why",
        "A failure has an error text that is not empty.",
        "Fill in JobResult.error; str(error) of many exceptions is empty, repr(error) never is.",
        failure_says_why,
        typescript='Fill in error; the message of many errors is "", String(error) never is.',
    ),
    _check(
        "input_untouched",
        "It does not change the job's input: a retry in the same process would see the change.",
        "Copy what you change: {**job.input, ...} or copy.deepcopy(job.input).",
        input_untouched,
        typescript="Copy what you change: { ...job.input } or structuredClone(job.input).",
    ),
    _check(
        "ends_in_time",
        "On a declared input it ends within the job timeout, in virtual time.",
        "Give each call a timeout, make it faster, raise the job timeout together with the lease, or split the job.",
        ends_in_time,
    ),
    _check(
        "leaves_nothing_running",
        "After it returns, no task, thread or child process of it still runs, and nothing stays monkeypatched.",
        "Await, cancel or join what you started; asyncio.TaskGroup does so by itself.",
        leaves_nothing,
        typescript="Await every promise; in finally, clear intervals and timeouts, and kill what you started.",
    ),
    _check(
        "hostile_inputs_fail_cleanly",
        "On an invalid input it fails cleanly: no exception but NonRetryableError, no endless run, no leftovers.",
        "Validate the input first, inside the try; return JobResult(success=False, error=...) or raise "
        "NonRetryableError.",
        hostile_inputs_fail_cleanly,
        typescript='Validate the input first, inside the try, and return { success: false, error: "..." }.',
    ),
    _check(
        "stops_when_cancelled",
        "Cancelled at any await, it stops within the grace period, and leaves nothing running.",
        "Do not catch CancelledError or BaseException without raising it again; keep the cleanup in finally short.",
        stops_when_cancelled,
        needs=True,
    ),
)


NOTHING_SEEN = (
    "no side effect was seen, and none declared: only answers were compared. If it has none, say pure = True; if a "
    "fake stands for the outside, let it declare with effect(...) what it does"
)
NOTHING_BETWEEN = "at 0 moments: it waits for nothing, and nothing that it does is seen"
UNDISTURBED = (
    "no try came to its moment: what an earlier try left behind was still there; reset it with reset = a function"
)
OTHERWISE = "another process would have its own: make it inside the processor, where it is first used"
MOST_SEEN = 8
"""Side effects that are named where nothing is wrong."""
Effects = list[tuple[str, Any]]


class Judgement:
    """What repeated deliveries come to, each side effect told once."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.found: list[str] = []
        self.undecided: list[str] = []
        self._told: set[str] = set()

    def compare(self, world: TrialRecord, where: str, *, besides: frozenset[str] = frozenset()) -> None:
        """Compare what was done with the undisturbed run; leave out what is judged elsewhere."""
        usual = _ending(self._probe)
        for name, told in (*_lost(self._probe, world), *_repeated(self._probe, world)):
            self._tell(name, f"{where}, {told}", besides=besides)
        for finding in (*lost(usual, world), *repeated(usual, world, idempotent=self._probe.idempotent)):
            self._tell(finding.deed.name, f"{where}, {finding.text}", besides=besides, decided=finding.decided)

        for path, size in {path: size for ending in world.endings for path, size in ending.left.items()}.items():
            if size == 0 and usual.left.get(path, 0) > 0 and world.last.succeeded:
                self._tell(f"write {path}", f"{where}, it returned success and left {path} empty", besides=besides)

    def _tell(self, name: str, text: str, *, besides: frozenset[str], decided: bool = True) -> None:
        if name in self._told or name in besides:
            return
        self._told.add(name)
        (self.found if decided else self.undecided).append(text)

    def finding(self, *notes: str, unjudged: str = "") -> ContractFinding:
        """Fail with what was found; else be inconclusive with what only the author can tell, or was not judged."""
        if self.found:
            return failed_unless_empty(self.found)
        unknown = [*self.undecided, *([unjudged] if unjudged else [])]
        if not unknown and not self._probe.pure and _sees_nothing(self._probe):
            unknown = [NOTHING_SEEN]
        return inconclusive(*unknown[:MOST_SHOWN]) if unknown else passed(*notes, _what_was_seen(self._probe))


def same_input_twice(probe: Probe) -> ContractFinding:
    """Judge a job that is delivered again after it was done, as after a lost reply."""
    judgement = Judgement(probe)
    judgement.found += _last_fails(probe.twice, "delivered again after it had succeeded")
    if probe.pure and (did := _did(_ending(probe))):
        judgement.found.append(f"the contract says pure = True, and it did {', '.join(did[:MOST_SHOWN])}")
    judgement.found += _patterns_of_nothing(probe)
    judgement.compare(probe.twice, "delivered twice")
    return judgement.finding()


def _did(ending: DeliveryEnding) -> list[str]:
    """Name what it did outside, declared or seen, each deed once."""
    return list(dict.fromkeys([*(name for name, _ in ending.effects), *outside(ending)]))


def _what_was_seen(probe: Probe) -> str:
    """Say of which side effects a pass is a pass."""
    did = _did(_ending(probe))
    more = len(did) - MOST_SEEN
    names = ", ".join(did[:MOST_SEEN]) + (f" and {more} more" if more > 0 else "")
    return f"seen of each delivery: {names}" if names else "seen of each delivery: no side effect"


def _patterns_of_nothing(probe: Probe) -> list[str]:
    """Name what `idempotent` and `repeatable_effects` excuse and no delivery did: such a name is misspelt."""
    return [
        *_unmatched(probe, "idempotent", probe.idempotent, done_in),
        *_unmatched(probe, "repeatable_effects", sorted(probe.repeatable), lambda e: [name for name, _ in e.effects]),
    ]


def _unmatched(
    probe: Probe, setting: str, patterns: Sequence[str], of: Callable[[DeliveryEnding], list[str]]
) -> list[str]:
    names: dict[str, None] = {}
    left = list(patterns)
    for worlds in _worlds(probe):
        if not left:  # What only a crash leads to takes more tries, and most contracts need none of them.
            break
        names.update(dict.fromkeys(name for world in worlds for ending in world.endings for name in of(ending)))
        left = [pattern for pattern in left if not any(fnmatchcase(name, pattern) for name in names)]
    done = f"; it did {', '.join(list(names)[:MOST_SEEN])}" if names else "; nothing was seen"
    return [f"{setting} names {each!r}, which it never did{did_you_mean(each, names)}{done}" for each in left]


def _worlds(probe: Probe) -> Iterator[list[TrialRecord]]:
    yield [probe.twice, *(tried.world for tried in probe.plain)]
    yield [world for _, world in probe.crashed]


def survives_crash(probe: Probe) -> ContractFinding:
    """Judge a job whose process dies at each moment, and which is delivered again."""
    judgement, known = Judgement(probe), _repeated_anyway(probe)
    struck = _killed(probe.crashed)
    remembered = [(at, world) for at, world in struck if world.outlived]
    _judge_redelivery(judgement, [each for each in struck if each not in remembered], known)
    if remembered and not judgement.found:
        here, forgotten = Judgement(probe), Judgement(probe)
        _judge_redelivery(here, remembered, known)
        _judge_redelivery(forgotten, _killed(probe.forgotten), known)
        if here.found and not forgotten.found:  # it may be the memory of a process that is no more
            names = _in_memory(probe.crashed)
            judgement.undecided.append(f"{here.found[0]}; but {names} outlived its death, {AFRESH}; {IN_MEMORY}")
        else:
            judgement.found += here.found
            judgement.undecided += here.undecided
    if remembered and not judgement.found and not judgement.undecided:
        judgement.undecided += _without_memory(probe, known)
    covered = f"killed at {probe.coverage(len(struck), first=2)}"
    return judgement.finding(covered, unjudged=_unjudged(probe, "killed", probe.crashed, struck, known))


AFRESH: Final = "and a new process would begin without it"
UNSEEN: Final = "which a process of its own would not see"


def _killed(worlds: Worlds) -> Worlds:
    return [(at, world) for at, world in worlds if world.broken or world.first.how == "severed"]


def _judge_redelivery(judgement: Judgement, struck: Worlds, known: frozenset[str]) -> None:
    for at, world in struck:
        where = f"killed at moment {at}{_after(world)}{_at(world)} and delivered again"
        if world.last.in_vain is not None:
            judgement.undecided.append(f"{where}, {world.last.in_vain}; {OTHERWISE}")
            continue
        judgement.found += _last_fails(world, where)
        judgement.compare(world, where, besides=known)


def _without_memory(probe: Probe, known: frozenset[str]) -> list[str]:
    """Say what a death that takes the memory of the processor's module along comes to, where all is not well then.

    It is no verdict: what is in that memory may also stand for the world outside, which no death
    changes.
    """
    kept = dict.fromkeys(name for _, world in probe.forgotten for name in world.outlived)
    there = Judgement(probe)
    _judge_redelivery(there, _killed(probe.forgotten), known)
    told = [*there.found, *there.undecided]
    if not (kept or told):
        return []
    then = f"; then, {told[0]}" if told else ""
    return [f"{_in_memory(probe.crashed)} outlived its death, {AFRESH}{then}; {IN_MEMORY}"]


def _in_memory(worlds: Worlds) -> str:
    """Name what of the memory of the processor's module a delivery had changed when it was struck."""
    return ", ".join(dict.fromkeys(name for _, world in worlds for name in world.outlived))


def survives_zombie(probe: Probe) -> ContractFinding:
    """Judge a delivery that stalls, loses its lease to a twin, and goes on when the twin is done."""
    if _repeated_anyway(probe):
        return inconclusive("two deliveries one after the other are not safe yet: repair that first")
    judgement = Judgement(probe)
    struck = [(at, world) for at, world in probe.stalled if world.broken or len(world.endings) > 1]
    for at, world in struck:
        where = f"stalled at moment {at}{_after(world)}{_at(world)} while a second delivery ran to its end"
        if world.broken:
            judgement.found.append(f"{where}: {world.broken}")
            continue
        twin = world.last
        if twin.in_vain is not None:
            judgement.undecided.append(f"{where}: {twin.in_vain}; {OTHERWISE}")
            continue
        if not twin.succeeded and world.first.held:
            judgement.undecided.append(f"{where}, which met the open transaction of the first: {twin.words}")
            continue
        if not twin.succeeded and world.outlived:  # a twin in a process of its own would not see that
            told = f"{where}: the second delivery did not succeed, {twin.words}"
            names = ", ".join(world.outlived)
            judgement.undecided.append(f"{told}; but the first had changed {names}, {UNSEEN}; {IN_MEMORY}")
            continue
        if not twin.succeeded:
            judgement.found.append(f"{where}: the second delivery did not succeed, {twin.words}")
        judgement.compare(world, where)
    covered = f"stalled at {probe.coverage(len(struck), first=2)}"
    if released := sum(world.first.released for _, world in struck):
        covered += f"; {released} times its open transaction was aborted, as its twin waited for a lock of it"
    return judgement.finding(covered, unjudged=_unjudged(probe, "stalled", probe.stalled, struck, frozenset()))


Worlds = list[tuple[int, TrialRecord]]


def _unjudged(probe: Probe, how: str, tried: Worlds, struck: Worlds, known: frozenset[str]) -> str:
    """Say what was left out of a judgement, so that it is no pass."""
    if known:
        return (
            f"{', '.join(sorted(known))}: repeated by any second delivery, see same_input_twice; where that "
            "does no harm, name it in repeatable_effects (declared) or idempotent (seen)"
        )
    if not tried:
        return "" if probe.pure else f"{how} {NOTHING_BETWEEN}"
    return "" if struck else f"{how} at 0 of {len(tried)} moments: {UNDISTURBED}"


def _repeated_anyway(probe: Probe) -> frozenset[str]:
    """Name what is done twice by two deliveries that nothing disturbs."""
    found = repeated(_ending(probe), probe.twice, idempotent=probe.idempotent)
    return frozenset(
        {name for name, _ in _repeated(probe, probe.twice)} | {each.deed.name for each in found if each.decided}
    )


def _ending(probe: Probe) -> DeliveryEnding:
    assert probe.good is not None
    return probe.good.world.first


def _sees_nothing(probe: Probe) -> bool:
    usual = _ending(probe)
    return not usual.effects and not usual.observed


def _last_fails(world: TrialRecord, where: str) -> list[str]:
    if world.broken:
        return [f"{where}: {world.broken}"]
    return [] if world.last.succeeded else [f"{where}, {world.last.words}"]


def _repeated(probe: Probe, world: TrialRecord) -> list[tuple[str, str]]:
    """Name the declared side effects that happened more often than without a disturbance."""
    usual = _counted(list(_ending(probe).effects))
    return [
        (_word_effect(key), f"{_word_effect(key)} happened {count} times")
        for key, count in _counted(world.effects).items()
        if count > max(1, usual[key]) and key[0] not in probe.repeatable
    ]


def _lost(probe: Probe, world: TrialRecord) -> list[tuple[str, str]]:
    """Name the declared side effects that never happened although the job was answered as a success."""
    if not world.last.succeeded:
        return []
    there = _counted(world.effects)
    return [
        (_word_effect(key), f"it returned success and {_word_effect(key)} never happened")
        for key in _counted(list(_ending(probe).effects))
        if not there[key]
    ]


def _counted(effects: Effects) -> Counter[tuple[str, str]]:
    return Counter((name, canonical(data)) for name, data in effects)


def _word_effect(key: tuple[str, str]) -> str:
    return f"{key[0]} {key[1]}" if key[1] != "{}" else key[0]


def _after(world: TrialRecord) -> str:
    names = [name for name, _ in world.first.effects] or outside(world.first)
    return f", after {', '.join(names[:MOST_SHOWN])}," if names else ""


def _at(world: TrialRecord) -> str:
    return f" ({world.first.place})" if world.first.place else ""


DELIVERIES: Final = (
    Check(
        "same_input_twice",
        "Delivered again after a success, it succeeds again and repeats no side effect.",
        "Send job.id along as an idempotency key, or record what was done in the same transaction.",
        same_input_twice,
        needs_success=True,
    ),
    Check(
        "survives_crash",
        "Killed at any moment and delivered again, it completes, with every side effect, and none repeated.",
        "Record a step as done only after it is done: in one transaction with it, or keyed by job.id.",
        survives_crash,
        needs_success=True,
    ),
    Check(
        "survives_zombie",
        "A delivery that stalls, and resumes after a second delivery has ended, repeats no side effect.",
        "Right before a side effect, check that the job is still yours, or let the receiver refuse a repeated key.",
        survives_zombie,
        needs_success=True,
    ),
)
