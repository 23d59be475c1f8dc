"""What happened more often, or never, because a delivery was disturbed, and whether anything explains it.

Compares what was seen of a disturbed run with the undisturbed one: a multiset of calls, each by its
method and URL or by its verb and table, with what changes from try to try masked. A repetition is a
failure only where nothing explains it. What only its author can tell is *undecided*: shown with
both calls and the line that settles it. Runs nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import urlsplit

from job_harness.subjects.processors.contract.trial import DeliveryEnding, TrialRecord
from job_harness.subjects.processors.observed.account import ObservedEffect, Stands
from job_harness.subjects.processors.sql_statement import Nature

_VOLATILE = re.compile(
    r"[0-9a-f]{8}-[0-9a-f-]{27}|(?<![a-z])[0-9a-f]*\d[0-9a-f]{7,}|\d{3,}|(?<=[/=_.-])\d+(?=[/._-]|$)"
)
"""What a target may hold that is new in each try: identifiers, times, numbers."""
_CHANGES = (Nature.ADDS, Nature.MAY_TELL, Nature.SETS)
_VERSION = re.compile(r"api|v\d+", re.IGNORECASE)


class Deed(NamedTuple):
    """What is done, whatever its values are."""

    kind: str
    verb: str
    target: str

    @property
    def name(self) -> str:
        """What `idempotent=` calls it."""
        return f"{self.verb} {self.target}"


class Repetition(NamedTuple):
    """A deed that was repeated, or never done."""

    deed: Deed
    decided: bool
    """Whether it is a failure; otherwise only the author can tell."""
    text: str


def standing_effects(ending: DeliveryEnding) -> list[ObservedEffect]:
    """List what one delivery did that stands, looks included."""
    return [effect for effect in ending.observed if effect.stands == Stands.DONE]


def repeated(usual: DeliveryEnding, world: TrialRecord, *, idempotent: Sequence[str] = ()) -> list[Repetition]:
    """List what stands more often than undisturbed; `idempotent` are patterns of what may."""
    before = _by_deed(usual)
    found: list[Repetition] = []
    together: dict[Deed, list[tuple[int, ObservedEffect]]] = {}
    for number, ending in enumerate(world.endings):
        for deed, effects in _by_deed(ending).items():
            together.setdefault(deed, []).extend((number, effect) for effect in effects)
    for deed, done in together.items():
        if _excused(deed, [*before.get(deed, ()), *(effect for _, effect in done)], idempotent):
            continue
        finding = _judge_deed(deed, before.get(deed, []), done, world)
        if finding is not None:
            found.append(finding)
    return found


def lost(usual: DeliveryEnding, world: TrialRecord) -> list[Repetition]:
    """List what was never done although the job was answered as a success."""
    if not world.last.succeeded:
        return []
    before = _by_deed(usual)
    there = [_by_deed(ending) for ending in world.endings]
    other = any(deed not in before for each in there for deed in each)  # It took another way.
    return [
        Repetition(deed, not other, f"it returned success and {deed.name} never happened")
        for deed, effects in before.items()
        if effects[0].nature == Nature.ADDS and not any(deed in each for each in there) and not effects[0].declared
    ]


def done_in(ending: DeliveryEnding) -> list[str]:
    """List every name by which `idempotent` may call what it did."""
    return [name for effect in standing_effects(ending) for name in (_deed(effect).name, effect.name)]


def outside(ending: DeliveryEnding) -> list[str]:
    """Name what it changed outside, each deed once."""
    changing = [effect for effect in standing_effects(ending) if effect.nature in _CHANGES]
    return list(dict.fromkeys(_deed(effect).name for effect in changing))


def _by_deed(ending: DeliveryEnding) -> dict[Deed, list[ObservedEffect]]:
    """List what a repetition can spoil; what is removed leaves nothing behind, however often."""
    found: dict[Deed, list[ObservedEffect]] = {}
    for effect in standing_effects(ending):
        if effect.nature in _CHANGES and effect.verb != "remove":
            found.setdefault(_deed(effect), []).append(effect)
    return found


def _deed(effect: ObservedEffect) -> Deed:
    return Deed(effect.kind, effect.verb, _masked(effect))


def _masked(effect: ObservedEffect) -> str:
    if effect.kind == "http":
        parts = urlsplit(effect.target)
        path = "/".join("*" if _VOLATILE.search(f"/{each}") else each for each in parts.path.split("/"))
        return f"{parts.scheme}://{parts.netloc}{path}"
    return _VOLATILE.sub("*", effect.target) if effect.kind == "file" else effect.target


def _excused(deed: Deed, effects: Iterable[ObservedEffect], idempotent: Sequence[str]) -> bool:
    """Whether a repetition is declared to be harmless, or is judged by what its fake declares."""
    effects = list(effects)
    names = {deed.name, *(effect.name for effect in effects)}
    return any(effect.declared for effect in effects) or any(
        fnmatchcase(name, pattern) for name in names for pattern in idempotent
    )


def _judge_deed(
    deed: Deed, before: list[ObservedEffect], done: list[tuple[int, ObservedEffect]], world: TrialRecord
) -> Repetition | None:
    effects = [effect for _, effect in done]
    if effects[0].nature == Nature.SETS:
        targets = {effect.target for effect in effects}
        if len(targets) <= max(1, len({effect.target for effect in before})):
            return None
        return _finding(deed, done, decided=False, why="each try leaves another one behind")
    if len(effects) <= max(1, len(before)):
        return None
    keys = [effect.key for effect in effects]
    if None not in keys and len(set(keys)) <= max(1, len({effect.key for effect in before})):
        return None
    acting = list(dict.fromkeys(number for number, _ in done))
    if _most(acting, lambda number: _emptied(deed, standing_effects(world.endings[number]))):
        return None
    if looked := _most(acting, lambda number: _looked(deed, standing_effects(world.endings[number]))):
        return _finding(
            deed,
            done,
            decided=False,
            why=f"{looked} checked first whether it was done; does the fake that answers it remember?",
        )
    if _differ(before, effects):
        return _finding(deed, done, decided=False, why="the keys of their bodies differ, so they may be two deeds")
    if effects[0].nature == Nature.MAY_TELL:
        return _finding(deed, done, decided=False, why="by its name it may be written down once for each attempt")
    if None not in keys:
        return _finding(deed, done, decided=True, why="the Idempotency-Key is another one each time")
    return _finding(
        deed, done, decided=True, why=_UNEXPLAINED.get(deed.kind, "nothing keeps a second delivery from doing it again")
    )


_UNEXPLAINED = {"http": "it has no Idempotency-Key, and nothing looked first whether it was done"}


def _most(acting: list[int], explains: object) -> str:
    """Return what explains all acting deliveries but one; the first to act needs no explanation."""
    assert callable(explains)
    told = [explains(number) for number in acting]
    return next(filter(None, told), "") if len(acting) > 1 and told.count("") <= 1 else ""


def _emptied(deed: Deed, effects: list[ObservedEffect]) -> str:
    """Say by what it deleted first what it then adds."""
    for one, after in pairwise(_turns(deed, effects, lambda effect: effect.verb == "DELETE")):
        if one is not None and after is None:
            return one
    return ""


def _looked(deed: Deed, effects: list[ObservedEffect]) -> str:
    """Say by what it looked, before it acted, whether that had been done."""
    for one, after in pairwise(_turns(deed, effects, lambda effect: effect.nature == Nature.LOOKS)):
        if one is not None and after is None:
            return one
    return ""


def _turns(deed: Deed, effects: list[ObservedEffect], counts: object) -> list[str | None]:
    """List, in order, the words of what counts on the same resource, and None for each time the deed is done."""
    assert callable(counts)
    turns: list[str | None] = []
    for effect in effects:
        if _deed(effect) == deed:
            turns.append(None)
        elif effect.kind == deed.kind and counts(effect) and _same_resource(effect, deed):
            turns.append(effect.name)
    return turns


def _same_resource(effect: ObservedEffect, deed: Deed) -> bool:
    if deed.kind != "http":
        return _masked(effect) == deed.target
    return _collection(effect.target) == _collection(deed.target)


def _collection(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    names = [each for each in parts.path.split("/") if each and not _VERSION.fullmatch(each)]
    return parts.netloc, names[0] if names else ""


def _differ(before: list[ObservedEffect], effects: list[ObservedEffect]) -> bool:
    """Whether no body of one shape was sent more often than before."""
    usual = Counter(effect.shape for effect in before)
    return all(count <= max(1, usual[shape]) for shape, count in Counter(effect.shape for effect in effects).items())


def _finding(deed: Deed, done: list[tuple[int, ObservedEffect]], *, decided: bool, why: str) -> Repetition:
    first, again = done[0], next((each for each in done[1:] if each[0] != done[0][0]), done[-1])
    lines = [
        f"{deed.name} happened {len(done)} times: {why}",
        f"  delivery {first[0] + 1}: {first[1].words}",
        f"  delivery {again[0] + 1}: {again[1].words}",
    ]
    if not decided:
        lines.append(
            f"  where its receiver ignores a repetition: idempotent = [{deed.name!r}]; or let the fake declare with "
            "effect(...) what it does"
        )
    return Repetition(deed, decided, "\n".join(lines))
