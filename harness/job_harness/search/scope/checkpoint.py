"""A search that was stopped, as a file that the same search can go on from.

It holds the tree of what was reached: for each state the one that it was reached from, and by which
move. No state and no key is in it: both hang together with code and with numbers that mean
something in one process only. A search that goes on makes each state again by its one move, in the
order in which they were found, and tries none of the others; the states that were still waiting
must then look as they did. What a file says is checked and never executed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from zlib import crc32

from job_harness.core.faults.catalogue import read_option
from job_harness.errors import UsageError
from job_harness.search.scope.state import GlobalState, Move

FORMAT = 1
START_AGAIN = "Start the search again without --resume."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a search came."""

    identity: Mapping[str, str]
    """What the search was of; one that goes on has to be of the same."""
    complete: bool
    reexecuted: bool
    parents: Sequence[int]
    """By node, the one that it was reached from; -1 where a workload begins."""
    moves: Sequence[int]
    """By node, the place of its move among the words."""
    words: Sequence[Any]
    """Each different move: what is answered at its gates, and what is picked."""
    ended: Sequence[int]
    """Nodes at which an anomaly ended the run."""
    boring: Sequence[int]
    waiting: tuple[Sequence[int], Sequence[int]]
    """The nodes that wait in this layer, and those of the next."""
    looks: Sequence[int]
    """What the states that wait look like, in order: see `look_of`."""
    progress: Mapping[str, Any]
    sightings: Sequence[tuple[str, int, bool]]
    outcomes: Sequence[Sequence[str]]

    def text(self) -> str:
        """Return the file's text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":")) + "\n"

    def refuse_other(self, identity: Mapping[str, str]) -> None:
        """Raise UsageError where this is no part of the search that is asked for, or nothing is left of it."""
        for name, value in identity.items():
            if (kept := self.identity.get(name)) != value:
                raise UsageError(
                    f"the saved search has another {name}: {kept}, not {value}",
                    hint=f"Use the same options as before. {START_AGAIN}",
                )
        if self.complete:
            raise UsageError("the saved search is already complete", hint=START_AGAIN)

    def moves_by_node(self) -> list[Move]:
        """Return by which move each node was reached."""
        read = [Move(tuple(map(_read, gates)), tuple(picks)) for gates, picks in self.words]
        return [read[place] for place in self.moves]


def _read(words: str | None) -> Any:
    return None if words is None else read_option(words)


def read_checkpoint(text: str, name: str) -> Checkpoint:
    """Read a file's text; `name` is what errors call it.

    Raises UsageError where the text is not a whole checkpoint in this format.
    """
    try:
        data = json.loads(text)
        kept = data.pop("format")
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{name}: this is not a saved search, or it is cut short", hint=START_AGAIN) from None
    if kept != FORMAT:
        raise UsageError(
            f"{name}: this search was saved in format {kept}; this version reads {FORMAT}", hint=START_AGAIN
        )
    try:
        checkpoint = Checkpoint(**data)
        _refuse_damage(checkpoint)
    except (TypeError, ValueError, IndexError, KeyError, AttributeError):
        raise UsageError(f"{name}: the saved search is damaged", hint=START_AGAIN) from None
    return checkpoint


def _refuse_damage(checkpoint: Checkpoint) -> None:
    """Raise ValueError, or what Python raises itself, where parts do not fit each other."""
    count = len(checkpoint.parents)
    layer, following = checkpoint.waiting
    nodes = [*layer, *following, *checkpoint.ended, *[node for _, node, _ in checkpoint.sightings]]
    fits = (
        len(checkpoint.moves) == len(checkpoint.boring) == count
        and len(checkpoint.looks) == len(layer) + len(following)
        and all(-1 <= parent < node for node, parent in enumerate(checkpoint.parents))
        and all(0 <= place < len(checkpoint.words) for place in checkpoint.moves)
        and all(0 <= node < count for node in nodes)
        and all(-2 <= node < count for node in checkpoint.boring)
        and {"states", "transitions", "depth", "frontier", "layers"} == set(checkpoint.progress)
    )
    if not fits:
        raise ValueError("the parts of a checkpoint do not fit each other")


def words_of(moves: Iterable[Move]) -> tuple[list[int], list[Any]]:
    """Return the place of each move among the words, and the words."""
    places: dict[Move, int] = {}
    numbers = [places.setdefault(move, len(places)) for move in moves]
    return numbers, [[[gate and gate.words for gate in move.gates], list(move.picks)] for move in places]


def look_of(state: GlobalState) -> int:
    """Return what tells a state from one that another queue, or another release, would be in."""
    shown = sorted((job, repr(view)) for job, view in state.views.items())
    standing = [(actor.standing, actor.position and actor.position.request.point) for actor in state.actors]
    return crc32(repr((state.now, shown, standing, state.ready, state.budgets)).encode("utf-8", "backslashreplace"))
