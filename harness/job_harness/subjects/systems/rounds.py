"""Which rounds of a process's loops would find nothing: time passes over them.

A worker that polls every second makes 3 600 rounds in an hour in which nothing happens. What one of
them looked at, and whether anything has changed since, tells which of the next need not be made.
Must not know: gates, how rows are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeAlias

from job_harness.core.model import MINUTE, Duration, Instant
from job_harness.subjects.systems.process import ProcessTimer, SystemProcess
from job_harness.subjects.systems.traffic import Tag
from job_harness.worlds.sql import changed_tables, point_of

TURNED_AWAY: Final = 3
"""After that many rounds in a row that ended at an upkeep, the next one is taken to end there too."""
COME_AGAIN: Final = 3
"""Once a round has come so often since the last change, the others of its loop have come too."""

Said: TypeAlias = tuple[str, tuple[Tag, ...]]
"""A statement, and what it did."""


class Changes:
    """What has changed in a run on which a round of a loop may depend, and who changed it."""

    def __init__(self, processes: Iterable[str]) -> None:
        self.count = 0
        """How often something did."""
        self.writes = 0
        """How many statements may have changed a row."""
        self.writer = ""
        """Which process sent the last of these; empty for a client."""
        self._by = dict.fromkeys(processes, 0)

    def note(self, by: str = "") -> None:
        """Note a change, and which process made it, if one did."""
        self.count += 1
        if by:
            self._by[by] += 1

    def write(self, writer: str) -> None:
        """Note that a row may have changed."""
        self.writes += 1
        self.writer = writer

    def beside(self, process: str) -> int:
        """Count what was changed by others than this process."""
        return self.count - self._by[process]


@dataclass(slots=True)
class Round:
    """What a timer's firing came to, until its process is quiet again."""

    timer: ProcessTimer
    fired_at: Instant
    said: list[Said] = field(default_factory=list)
    wrote: list[str] = field(default_factory=list)
    """Those statements that wrote something."""
    called: bool = False
    """Whether more than statements came of it."""
    beside: int = 0
    """How often others had changed something when it began: what they change later it may have missed."""
    others: frozenset[int] = frozenset()
    """The timers of other loops, by number: those that were set when it began."""


class LastRound(NamedTuple):
    """What is known of the round that set a timer, or fired it last.

    It is kept for each timer. Two loops may be alike, such as those of a library that polls two
    queues: what one of them has looked at, the other has not.
    """

    idle_at: int
    """The change of the system since which it has found nothing."""
    fired_at: Instant
    upkeep: bool
    """Whether it wrote down that it was there."""


@dataclass(slots=True)
class AlikeRounds:
    """What is known of the rounds of loops that are alike, in one process."""

    mute: bool = True
    """Whether none of them has said anything or set its timer again, as where a pool closes an idle connection."""
    looked: tuple[int, Instant] = (-1, 0)
    """Up to which change, and when, a round has looked at everything and found nothing."""
    turned_away: int = 0
    """How many rounds in a row were over at an upkeep that was not due again yet: they looked at nothing."""


@dataclass(slots=True)
class UnevenRounds:
    """What is known of loops whose rounds wait for different times, of those that are set at one place.

    Such a loop adds chance to its interval, or does now this and now that, each at its own time:
    DBOS does both. A round that found nothing does not speak for the next one, which may look at
    something else.
    """

    longest: Duration = 0
    """The longest that one of them has waited that found nothing; 0: none has."""
    since: tuple[int, Instant] = (-1, 0)
    """The change after which these are counted, and when the first of them fired."""
    said: Counter[tuple[Said, ...]] = field(default_factory=Counter)
    """How many of them have said the same, and found nothing."""

    def may_set(self, timer: ProcessTimer, fired: ProcessTimer) -> bool:
        """Whether a timer may be the next one of the loop that another one belongs to. Much longer ones are not."""
        alike = timer.place == fired.place and not timer.repeats and not fired.repeats
        return alike and timer.wait <= 2 * max(self.longest, fired.wait)


@dataclass(slots=True)
class ProcessRounds:
    """The rounds of one process since it was started."""

    under_way: Round | None = None
    alike: dict[tuple[str, Duration, bool], AlikeRounds] = field(default_factory=dict)
    uneven: dict[str, UnevenRounds] = field(default_factory=dict)
    """By the place where timers are set."""
    last: dict[int, LastRound] = field(default_factory=dict)
    """By number of a timer."""
    heard: set[Said] = field(default_factory=set)
    """What it has said in rounds before."""
    upkeep: dict[int, Instant] = field(default_factory=dict)
    """By number of a timer, when an upkeep has to be done that would be left out otherwise."""


class Calendar(Protocol):
    """Who knows when time alone changes what a statement sees."""

    def next_instant(self, after: Instant) -> Instant | None:
        """Tell when it does so first, after an instant."""


class Wakes(NamedTuple):
    """When timers are due, and which of them only keep something up."""

    at: list[Instant]
    mute: list[Instant]
    """Those before which no upkeep is due: nothing looks for it then, and each upkeep may set such a timer anew."""
    upkeep: list[tuple[SystemProcess, ProcessTimer]]


class PollingRounds:
    """Judges each round of each loop, and says from then on when a timer has to fire."""

    def __init__(
        self,
        processes: Mapping[str, SystemProcess],
        changes: Changes,
        calendar: Calendar,
        *,
        upkeep: frozenset[str],
    ) -> None:
        """Know the processes of a run; a write to the tables of `upkeep` says only that a process was there."""
        self._processes = processes
        self._changes = changes
        self._calendar = calendar
        self._upkeep = upkeep
        self._of = {name: ProcessRounds() for name in processes}

    def forget(self, name: str) -> None:
        """Forget what a process did that is gone."""
        self._of[name] = ProcessRounds()

    def ask(self, name: str) -> None:
        """A process is asked something: that may be what one of its own rounds looks for."""
        self._of[name].last.clear()

    def begin(self, process: SystemProcess, timer: ProcessTimer, now: Instant) -> None:
        """A timer fires."""
        rounds = self._of[process.name]
        others = frozenset(each.number for each in process.timers if each.number != timer.number)
        rounds.under_way = Round(timer, now, beside=self._changes.beside(process.name), others=others)
        rounds.last.pop(timer.number, None)

    def note_call(self, name: str) -> None:
        """More than statements came of the round that is open."""
        if (at := self._of[name].under_way) is not None:
            at.called = True

    def note_statement(self, name: str, said: Said, *, wrote: bool) -> bool:
        """Take note of a statement. True: what was written may be what a round of another process looks for."""
        if (at := self._of[name].under_way) is not None:
            at.said.append(said)
            if wrote:
                at.wrote.append(said[0])
        return wrote and not self._is_upkeep(said[0])

    def _is_upkeep(self, sql: str) -> bool:
        """Whether a statement, or a command by its gate, writes no more than that its process was there."""
        return is_upkeep(sql, self._upkeep) or sql.rpartition(" ")[2].startswith(tuple(self._upkeep))

    def close(self, process: SystemProcess, now: Instant) -> None:
        """Judge a round once its process is quiet: whether the next one would find nothing either."""
        rounds = self._of[process.name]
        done, rounds.under_way = rounds.under_way, None
        if done is None:
            return
        alike = rounds.alike.setdefault(done.timer.round, AlikeRounds())
        fresh = [said for said in done.said if said not in rounds.heard]
        turned_away = any(self._is_upkeep(sql) and not any(tag.writes for tag in tags) for sql, tags in done.said)
        alike.turned_away = alike.turned_away + 1 if turned_away and not fresh else 0
        ours = [timer for timer in process.timers if timer.number not in done.others]
        again = [timer.number for timer in ours if timer.round == done.timer.round]
        uneven = rounds.uneven.setdefault(done.timer.place, UnevenRounds())
        even = bool(again) and not uneven.longest
        following = again or [timer.number for timer in ours if uneven.may_set(timer, done.timer)]
        for gone in rounds.last.keys() - {timer.number for timer in process.timers}:
            del rounds.last[gone]
        if not fresh and self._found_nothing(process, done, alike, following, now):
            if even or self._all_have_looked(process, uneven, done):
                last = LastRound(self._changes.count, done.fired_at, bool(done.wrote))
                rounds.last.update(dict.fromkeys(following, last))
            if again and not turned_away:
                alike.looked = self._changes.count, done.fired_at
        alike.mute = alike.mute and not (done.said or done.called or again)
        rounds.heard.update(done.said)

    def _all_have_looked(self, process: SystemProcess, uneven: UnevenRounds, done: Round) -> bool:
        """Whether the rounds of a loop have each looked since something changed, or time alone may have changed it."""
        change, first = uneven.since
        until = self._looks_again(process, first)
        if change != self._changes.count or (until is not None and until <= done.fired_at):
            uneven.since = self._changes.count, done.fired_at
            uneven.said.clear()
        uneven.longest = max(uneven.longest, done.timer.wait)
        uneven.said[tuple(done.said)] += 1
        return uneven.said[tuple(done.said)] >= COME_AGAIN

    def _found_nothing(
        self, process: SystemProcess, done: Round, alike: AlikeRounds, again: Sequence[int], now: Instant
    ) -> bool:
        """Whether a round that said nothing new was over without finding anything; the timers `again` are its own.

        A round that is wrongly taken to find nothing hides a bug: its loop is passed over until
        something changes. One that is wrongly taken to be at work costs only time. So all of this
        must hold, and most of it was once a false verdict.
        """
        return (
            # What it wrote only says that its process is there. Such a write of its own does not
            # wake it again, or a cron that notes each visit would never come to rest.
            not done.called
            and all(map(self._is_upkeep, done.wrote))
            # It was not turned away by an upkeep that is not due yet: then it has looked at
            # nothing, and its next round may. Two workers that take turns at one upkeep would do so
            # for hours, so a look of its like in another process counts, and after TURNED_AWAY
            # times its own word.
            and (not 0 < alike.turned_away < TURNED_AWAY or self._looked(process, done.timer, now))
            # It set one of its timers again. Timers that other loops had set are not its own, even
            # where two loops look alike: a library that polls two queues has two of them.
            and bool(again)
            and bool(done.said or done.timer.repeats)
            # Nothing stays locked in an open transaction: a worker that sleeps between the jobs of
            # a batch is at work, though it says nothing.
            and not any(session.holds() for session in process.sessions)
            # No other process changed anything since it began: what was written while its statement
            # was under way it may not have seen.
            and self._changes.beside(process.name) == done.beside
        )

    def _looked(self, process: SystemProcess, timer: ProcessTimer, now: Instant) -> bool:
        """Whether a round of this loop, here or in a process of the same kind, looked since the last change."""
        alike = [each.name for each in self._processes.values() if each.program.kind is process.program.kind]
        for known in filter(None, (self._of[name].alike.get(timer.round) for name in alike)):
            change, when = known.looked
            if change == self._changes.count and ((until := self._calendar.next_instant(when)) is None or until > now):
                return True
        return False

    # what is due --------------------------------------------------------------------------------------------------

    def _due(self, process: SystemProcess, timer: ProcessTimer) -> Instant | None:
        """Tell when a timer has to fire; None: never, as things stand."""
        last = self._of[process.name].last.get(timer.number)
        if last is None or last.idle_at != self._changes.count or timer.wait <= 0:
            return timer.when
        until = self._looks_again(process, last.fired_at)
        return None if until is None else _on_grid(timer, max(until, timer.when))

    def _looks_again(self, process: SystemProcess, after: Instant) -> Instant | None:
        """Tell when time alone may let a round find something; None: never, as things stand."""
        until = self._calendar.next_instant(after)
        if not process.program.kind.may_be_a_scheduler:
            return until
        minute = (after // MINUTE + 1) * MINUTE  # It may ask its own clock whether something is due this minute.
        return minute if until is None else min(until, minute)

    def first_due(self, process: SystemProcess, now: Instant) -> ProcessTimer | None:
        """Return the timer that has to fire first, of those that have to by now."""
        due = [
            (when, timer.number, timer)
            for timer in process.timers
            if (when := self._due_now(process, timer, now)) is not None and when <= now
        ]
        return min(due)[2] if due else None

    def _due_now(self, process: SystemProcess, timer: ProcessTimer, now: Instant) -> Instant | None:
        """Tell when a timer has to fire; an upkeep that was moved up to now has to fire now."""
        rounds = self._of[process.name]
        at, last = rounds.upkeep.get(timer.number), rounds.last.get(timer.number)
        if at is not None and last is not None and last.fired_at < at <= now:
            return at
        return self._due(process, timer)

    def wakes(self, processes: Iterable[SystemProcess]) -> Wakes:
        """Tell when the timers of these are due; rounds that would find nothing are left out."""
        found = Wakes([], [], [])
        for process in processes:
            rounds = self._of[process.name]
            for timer in process.timers:
                wake = self._due(process, timer)
                alike = rounds.alike.get(timer.round)
                if wake is not None:
                    (found.mute if alike is not None and alike.mute else found.at).append(wake)
                if wake != timer.when and rounds.last[timer.number].upkeep:
                    found.upkeep.append((process, timer))
        return found

    def upkeep_before(
        self, until: Instant, upkeep: Collection[tuple[SystemProcess, ProcessTimer]]
    ) -> Iterator[Instant]:
        """Say when an upkeep has to be done once more, before it may be looked for."""
        for process, timer in upkeep:
            rounds = self._of[process.name]
            at = _last_before(timer, until) if timer.when <= until else -1
            if at > rounds.last[timer.number].fired_at:
                rounds.upkeep[timer.number] = at
                yield at

    def pass_over(self, processes: Iterable[SystemProcess], now: Instant) -> None:
        """Leave out the rounds before `now` that would find nothing; what is not left out fires late."""
        for process in processes:
            for timer in process.timers:
                due = self._due(process, timer)
                if timer.when < now and (due is None or due > timer.when):
                    process.moved[timer.number] = _on_grid(timer, now)
            process.move_timers()


def _last_before(timer: ProcessTimer, instant: Instant) -> Instant:
    """Return the last instant up to this one at which a timer's loop has a round."""
    return timer.when + (instant - timer.when) // timer.wait * timer.wait


def _on_grid(timer: ProcessTimer, instant: Instant) -> Instant:
    """Return the first instant from this one on at which a timer's loop has a round."""
    if instant <= timer.when:
        return timer.when
    return timer.when + -(-(instant - timer.when) // timer.wait) * timer.wait


def is_upkeep(sql: str, tables: frozenset[str]) -> bool:
    """Whether a statement is about one of these tables, or changes nothing but them, in its WITH too."""
    if point_of(sql).rpartition(" ")[2] in tables:
        return True
    changed = changed_tables(sql)
    return bool(changed) and tables.issuperset(changed)
