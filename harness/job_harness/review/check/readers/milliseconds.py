"""Numbers of milliseconds where a library counts seconds: told by a name, a factor, a comment, or their round value."""

from __future__ import annotations

import re
from typing import Final

from tree_sitter import Node

from job_harness.review.check.typescript import TRANSPARENT, Constant, arguments_of, called_name, text_of

COUNTED_IN_SECONDS: Final = frozenset({
    "retryDelay", "retryDelayMax", "expireInSeconds", "pollingIntervalSeconds", "heartbeatSeconds", "startAfter",
})  # fmt: skip
"""Options of pg-boss that are numbers of seconds and rarely a long time."""
_NAMED_MILLISECONDS: Final = re.compile(
    r"(_(ms|msecs?|millis|milliseconds)|[a-z0-9](Ms|Millis|Milliseconds))$", re.IGNORECASE
)
_SAID: Final = re.compile(
    r"(?P<number>\d+(\.\d+)?)\s*-?(?P<unit>s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|days?)\b"
)
_SAID_ALONE: Final = re.compile(r"/[/*]\W*(in )?(ms|millis|milliseconds)\W*")
_OF_A_NUMBER: Final = frozenset({"Number", "parseInt", "parseFloat", "Number.parseInt", "Math.round", "Math.floor"})
_DAY: Final = 86_400


def written_in_milliseconds(node: Node, constant: Constant) -> str | None:
    """Return how a number is written if a name, a factor or a comment says that it counts milliseconds.

    `DELAY_MS`, `2 * 60 * 1000`, `ms("2m")`, `120000 // 2 minutes`; what is divided is taken for converted.
    """
    leaves = _factors(node)
    for leaf in leaves or ():
        if leaf.type == "call_expression" or _NAMED_MILLISECONDS.search(text_of(leaf).rpartition(".")[2]):
            return text_of(node)
        if leaf != node and leaf.type == "number" and text_of(leaf).replace("_", "") == "1000":
            return text_of(node)
    said = _comment_after(node)
    if not said or not isinstance(constant, (int, float)) or isinstance(constant, bool):
        return None
    lengths = [float(one["number"]) * _UNIT_SECONDS[one["unit"][0]] for one in _SAID.finditer(said)]
    told = constant not in lengths and constant / 1000 in lengths
    return text_of(node) if told or _SAID_ALONE.fullmatch(said) else None


_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": _DAY}


def _factors(node: Node) -> list[Node] | None:
    """List what a number is multiplied and added from; None where it is divided, or is something else."""
    if node.type in TRANSPARENT and node.named_children:
        return _factors(node.named_children[0])
    if node.type == "binary_expression":
        sign = node.child_by_field_name("operator")
        parts = [_factors(part) for part in node.named_children if part.type != "comment"]
        if sign is None or text_of(sign) not in ("*", "+", "??", "||") or None in parts:
            return None
        return [leaf for part in parts for leaf in part or ()]
    if node.type == "call_expression":
        if called_name(node) == "ms":
            return [node]
        return _factors(arguments_of(node)[0]) if called_name(node) in _OF_A_NUMBER and arguments_of(node) else None
    return [node] if node.type in ("number", "identifier", "member_expression", "string") else None


def _comment_after(node: Node) -> str:
    """Return the comment behind a pair, on its line."""
    here = node.parent if node.parent is not None and node.parent.type == "pair" else node
    following = here.next_sibling
    while following is not None and following.type == ",":
        following = following.next_sibling
    if following is None or following.type != "comment" or following.start_point[0] != node.end_point[0]:
        return ""
    return text_of(following)


SHORTEST_SUSPECT: Final = 5000


def no_number_of_seconds(number: float) -> bool:
    """Tell a round number that is no round time in seconds: 120000 are 33 hours 20 minutes, 432000 are five days."""
    if number < SHORTEST_SUSPECT or number % 1000:
        return False
    return number % 3600 != 0 or (number > 2 * _DAY and number % _DAY != 0) or number > 365 * _DAY
