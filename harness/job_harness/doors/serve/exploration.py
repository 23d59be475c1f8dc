"""A test of a client as a campaign: its body is played again and again in the client, and judged here.

Knows which options a client gives, and how a finding is told to it. How runs are chosen and shrunk
is `exploring`'s.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from job_harness.core.faults import FaultPlan, events_of
from job_harness.core.history import Effect, Excuse, Fault, Observed
from job_harness.core.invariants.effects import MISSING
from job_harness.core.run.session import as_on_tape
from job_harness.core.scenario.replay_token import ReplayToken, decode, encode, target_of_test
from job_harness.core.sim import Choices, ListedGates, Replay, Tape
from job_harness.doors.serve.conversation import ClientGone, Conversation
from job_harness.doors.serve.service import whole_number
from job_harness.engines.reference.application import GUIDE
from job_harness.errors import Hung, UsageError, did_you_mean
from job_harness.report.blame import frames_of
from job_harness.report.screen import first_screen, meeting_lines, one_line, screen_text, timeline
from job_harness.search.explored.campaign import MOST_RUNS, RUNS, TestExploration, how_found
from job_harness.search.explored.played import PlayedTest, Turn
from job_harness.worlds.peers.peer import PeerLost

if TYPE_CHECKING:
    from job_harness.core.run.verdict import Run
    from job_harness.doors.serve.service import HarnessService, OpenedHarness

LONGEST_NAME: Final = 80
"""Characters of a test's name in the name of its page."""
TOKEN: Final = "TOKEN"
"""Stands in a client's replay command for the token."""
NOTHING_ENQUEUED: Final = "no job was enqueued, so there was nothing to disturb; enqueue it in the body"
NOTHING_DECLARED: Final = (
    "no processor declared an effect, so a side effect that happens twice goes unseen; wrap the fake: "
    'harness.external("charged", fake), or await effect("charged") in it; where only your own rows change, say in '
    "atRest() what must hold"
)
IN_CHECKS: Final = "always(), or into atRest(), which may be async"
MEMORY_OUTLIVES: Final = (
    "Did a row let the next attempt leave the effect out, or a Map or a Set in memory? Only memory is in doubt: a\n"
    "crash here ends what its worker does, not the process, so memory outlives it. In production it would be gone."
)


class BodyFailed(Exception):
    """What the body of the test threw."""


class ClientTest:
    """Plays the body of one test in the client, a new harness each time."""

    def __init__(
        self,
        service: HarnessService,
        conversation: Conversation,
        options: Mapping[str, Any],
        *,
        calls_fail: bool = True,
    ) -> None:
        self._calls_fail = calls_fail
        self._service = service
        self._conversation = conversation
        self._options = options
        self.left: list[str] = []
        """What earlier runs had changed when the last one began, as the client found it."""
        self.played = 0
        self.enqueued = False
        """Whether any run had a job."""
        self.effects: dict[str, None] = {}
        """The names of the side effects that processors declared in any run."""
        self.doubts: dict[str, None] = {}
        """What the client found to be no gate, or doubtful, in words."""
        self.checks = False
        """Whether the body judges by checks of its own."""
        self._problems: list[str] = []
        """What would fail the run that is played as a plain test."""
        self.engine = ""
        self.settings = GUIDE

    def play(self, choices: Choices, faults: FaultPlan) -> PlayedTest:
        """Play it once and return what it came to."""
        opened = self._service.opened = self._service.make(self._options)
        opened.harness.bench.running.calls_fail = self._calls_fail
        self.engine, self.settings = opened.harness.engine, opened.harness.settings
        turn = Turn(choices, faults)
        try:
            gone: ClientGone | None = None
            with turn.playing(opened.harness):
                try:
                    self._body(opened)
                except ClientGone as ended:
                    gone = ended
                    raise
            if gone is not None:
                raise gone  # What a test raises is its failure, and the next run would begin.
            seen = replace(turn.seen or PlayedTest(lost="the test was not called"), left=tuple(self.left))
            if (
                isinstance(choices, ListedGates)
                and self._problems
                and not (seen.failure or seen.lost or seen.anomalies)
            ):
                return replace(seen, failure="\n\n".join(self._problems))  # Undisturbed, it is a plain test.
            return seen
        finally:
            self._service.opened = None
            self._note_seen(opened)
            opened.harness.close()
            self.played += 1

    def _body(self, opened: OpenedHarness) -> None:
        try:
            told = self._conversation.play({"now": opened.now_ms, "run": self.played, "gates": True})
        except PeerLost as silent:
            raise Hung(str(silent)) from None
        self.left = [str(each) for each in told.get("left") or ()]
        self.checks |= bool(told.get("checks"))
        self.doubts.update(dict.fromkeys(map(str, told.get("doubts") or ())))
        if opened.hosted.notes.blocked:  # What the body made of it is not its failure.
            raise Hung(opened.hosted.notes.blocked[-1])
        opened.look_at(told.get("looked") or ())
        self._problems = [*opened.harness.review.test_problems(), *map(str, told.get("running") or ())]
        if lost := told.get("lost"):
            raise Hung(f"the test: {lost}")
        if failure := told.get("failure"):
            raise BodyFailed(str(failure))

    def _note_seen(self, opened: OpenedHarness) -> None:
        for event in opened.harness.history.events:
            if type(event) is Observed:
                self.enqueued = True
            elif type(event) is Effect and event.declared is not None:
                self.effects[event.name] = None

    def unjudged(self, campaign: TestExploration, *, replayed: Callable[[Tape], str]) -> Iterator[str]:
        """Say what would fail nothing: a pass is no promise about it. `replayed` says how one plays a run again."""
        if not self.enqueued:
            yield NOTHING_ENQUEUED
            return
        forbidden = {
            each["name"] if isinstance(each, dict) else each: said
            for option, said in (("at_most_once", "atMostOnce"), ("exactly_once", "exactlyOnce"))
            for each in self._options.get(option) or ()
        }
        bare = not (self.effects or self.checks)
        others = [name for name in self.effects if name not in forbidden]
        for name, said in forbidden.items():
            near = did_you_mean(name, others)
            # One harness may forbid what only another test of its file declares; where all of it is missing, none is.
            missing = f"no processor declared the effect {name!r}, which {said} names{near}"
            if bare:  # Whatever other tests of its file do, of this one nothing was judged.
                yield f"{missing}, and no check judged it; say in always() what must hold"
            elif name not in self.effects and near:
                yield missing
            elif not self.effects.keys() & forbidden.keys():
                self.doubts[missing] = None  # Whether none of the file does is for the client to say.
        if bare and not forbidden:
            yield NOTHING_DECLARED
        for name, count in campaign.repeated.items():
            yield (
                f"{name!r} was repeated in {count} of {campaign.disturbed} disturbed runs; "
                f"to forbid that: jobHarness({{ atMostOnce: {json.dumps(name)} }})"
            )
        if campaign.ignored:
            runs = f"{len(campaign.ignored)} of {campaign.disturbed} disturbed runs in which only a call failed"
            into = f"put what must hold there too into {IN_CHECKS}, or let no call fail by {{ callsFail: false }}"
            yield (
                f"the test itself failed in {runs}, which was not tried again, and every job was COMPLETED; {into}"
                f"{replayed(campaign.ignored[0])}"
            )
        self.doubts.update(
            dict.fromkeys((*campaign.not_held(into=IN_CHECKS, replayed=replayed), *campaign.not_reached()))
        )
        if not self.checks:
            yield from (f"{used_up}; to forbid that, check its error in always()" for used_up in campaign.used_up())


def explore(
    service: HarnessService,
    conversation: Conversation,
    *,
    name: str,
    source: str,
    command: str,
    file: str = "",
    options: Mapping[str, Any] | None = None,
    runs: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    calls_fail: bool = True,
    replay: str | None = None,
    found: str | None = None,
) -> dict[str, Any]:
    """Play a test. `command` replays it, where TOKEN stands for the token; `source` is the text of its body.

    A finding is written as a page into the folder `found`, named by the test and the `file` that it
    is in.

    Returns a `verdict`: pass, finding, fails (the undisturbed run does, by what the body threw) or
    inconclusive. Raises UsageError.
    """
    if service.opened is not None:
        raise UsageError(f"the harness of {service.opened.title!r} is still open", hint="Close it first.")
    player = ClientTest(service, conversation, options or {}, calls_fail=calls_fail)
    target = target_of_test(name, source)
    if replay is not None:
        return _replayed(player, decode(replay), name=name, target=target, command=command)
    campaign = _campaign(runs, seconds, seed)
    campaign.rerun, campaign.left_behind = player.play, lambda: player.left
    campaign.renew = 'reset it in the body, or write test.explore(name, { isolate: "worker" }, body)'
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # What disturbed runs say is expected.
        campaign.explore()
    page = None if found is None else Path(found) / _page_name(file, name)
    return _verdict(player, campaign, name=name, target=target, command=command, page=page)


def _verdict(
    player: ClientTest, campaign: TestExploration, *, name: str, target: str, command: str, page: Path | None
) -> dict[str, Any]:
    """Say what a campaign came to."""
    told = _summarize(campaign)
    if campaign.unsure:
        told |= {"why": campaign.unsure, "alone": campaign.alone_may_help, "changed": campaign.changed}
        if campaign.failed is None:
            return {**told, "verdict": "inconclusive"}
        return {**told, "verdict": "fails", "screen": _failed(player, campaign.failed)}
    if campaign.finding is not None:
        found = campaign.finding
        token = encode(ReplayToken(target, campaign.seed, found.run.tape))
        shown = _finding(player, found.run, found.anomaly, name=name, token=token, command=command, page=page)
        return {**told, **shown, "screen": f"{shown['screen']}\n{how_found(found)}"}
    if campaign.lost:
        tokens = ((why, encode(ReplayToken(target, campaign.seed, tape))) for why, tape in campaign.not_judged())
        lost = "\n".join(f"{why}; replay: {token}" for why, token in tokens)
        return {**told, "verdict": "inconclusive", "why": lost}
    if campaign.seconds is not None and not campaign.disturbed and campaign.gated:
        return {**told, "verdict": "inconclusive", "why": f"no disturbed run was played within {campaign.seconds:g} s"}

    def replayed(tape: Tape) -> str:
        return f"; replay one: {command.replace(TOKEN, encode(ReplayToken(target, campaign.seed, tape)))}"

    unjudged = player.unjudged(campaign, replayed=replayed) if campaign.disturbed or campaign.unsent else ()
    return {**told, "verdict": "pass", "unjudged": list(unjudged), "doubts": list(player.doubts)}


def _campaign(runs: Any, seconds: Any, seed: Any) -> TestExploration:
    if runs is not None and (isinstance(runs, bool) or not isinstance(runs, int) or runs < 1):
        raise UsageError(f"explore: runs must be a whole number of at least 1, not {runs!r}")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0):
        raise UsageError(f"explore: seconds must be a number above 0, not {seconds!r}")
    most = MOST_RUNS if runs is None and seconds is not None else RUNS if runs is None else runs
    return TestExploration(runs=most, seconds=seconds, seed=whole_number(seed, "explore: seed"))


def _summarize(campaign: TestExploration) -> dict[str, Any]:
    rate = campaign.disturbed / campaign.spent if campaign.spent else 0.0
    bound = f", stopped after {campaign.seconds:g} s" if campaign.late else ""
    return {
        "runs": campaign.disturbed,
        "seconds": round(campaign.spent, 3),
        "cost": f"{campaign.taken} ({rate:.3g} runs/s){bound}, seed {campaign.seed}{campaign.whole}",
        "notes": [*campaign.notes, *campaign.only_said()],
    }


def _finding(
    player: ClientTest, seen: PlayedTest, anomaly: str, *, name: str, token: str, command: str, page: Path | None
) -> dict[str, Any]:
    """Show what was found: on a screen, by the lines of code that it turns on, and as a `page`."""
    title = f"{anomaly} in {name}"
    run = seen.run(title=title, settings=player.settings, engine=player.engine)
    replay = command.replace(TOKEN, token)
    written = "" if page is None else _written(run, page, name=name, replay=replay, lead=anomaly)
    lines = first_screen(run, title=title, replay=replay, written=written, lead=anomaly, default=GUIDE)
    screen = f"{one_line(f'{anomaly}: {seen.led(anomaly).message}')}\n\n{screen_text(lines).rstrip()}"
    deaths = events_of(Excuse.DEATH)
    if anomaly == MISSING.name and any(isinstance(event, Fault) and event.name in deaths for event in run.history):
        screen += f"\n{MEMORY_OUTLIVES}"
    frames = [frame.data for frame in frames_of(run, anomaly)]
    told = {"anomaly": anomaly, "message": one_line(seen.led(anomaly).message), "token": token, "screen": screen}
    return {"verdict": "finding", **told, "frames": frames, "page": written}


def _failed(player: ClientTest, seen: PlayedTest) -> str:
    """Show what happened to the jobs of a test that failed by itself."""
    run = seen.run(title="", settings=player.settings, engine=player.engine)
    return screen_text([*timeline(run.history), *meeting_lines(run)]).rstrip() if len(run.history) else ""


def _page_name(file: str, name: str) -> str:
    """Name the page of a test: readable, the same each time, and told from every other test of any file."""
    readable = re.sub(r"[^\w.-]+", "-", f"{Path(file).stem}-{name}").strip("-.")[:LONGEST_NAME]
    return f"{readable}-{hashlib.sha256(f'{file} {name}'.encode()).hexdigest()[:8]}.html"


def _written(run: Run, page: Path, *, name: str, replay: str, lead: str) -> str:
    """Write the page of a finding and return its path; what it says is on the screen, too, so a failure is no error."""
    from job_harness.report.json_report import run_data
    from job_harness.report.picture import Drawing, picture_of

    page = page.with_name(f"{lead}-{page.name}")
    drawn = picture_of(Drawing(run_data(run, lead=lead), name, str(run.verdict), replay=replay, lead=lead))
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(drawn, encoding="utf-8", errors="backslashreplace")
    except OSError:
        return ""
    return os.path.relpath(page)


def _replayed(player: ClientTest, token: ReplayToken, *, name: str, target: str, command: str) -> dict[str, Any]:
    """Play one run as its token says."""
    changed = token.expect_test(target, called=name)
    choices = Replay(token.tape)
    seen = player.play(choices, as_on_tape())
    missing = "; ".join(f"{each} never came up" for each in choices.unused)
    told = {"runs": 1, "seconds": 0.0, "cost": "one run, as the token says", "notes": []}
    if seen.lost:
        return {**told, "verdict": "inconclusive", "why": seen.lost}
    if seen.anomalies:
        anomaly = seen.anomalies[0].name
        shown = _finding(player, seen, anomaly, name=name, token=encode(token), command=command, page=None)
        if changed:
            fits = missing or "all of its deviations still fit"
            shown["screen"] += f"\nThe test has changed since this token was made; {fits}."
        return {**told, **shown}
    if missing:
        return {**told, "verdict": "inconclusive", "why": f"the token no longer fits this test: {missing}"}
    if seen.failure:
        return {**told, "verdict": "fails", "why": re.sub(r"^BodyFailed: ", "", seen.failure)}
    return {**told, "verdict": "pass"}
