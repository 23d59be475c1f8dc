"""A replay token: one word that plays a run again, whichever front door prints it and whichever is given it.

Hides its form (`docs/contracts/replay_token.md`): what was run, by a digest; the seed that it was
drawn from; and its deviations. The deviations alone decide what is played: a seed would draw
something else after any change of what is drawn, while a deviation names the gate at which it
belongs. Knows no engine, test or command line: they say what a target is, and refuse a token of
another one with `expect`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import zlib
from dataclasses import dataclass, replace
from typing import Any, Final

from job_harness.core.scenario.scenario import Scenario
from job_harness.core.scenario.writer import write_scenario
from job_harness.core.sim import Deviation, Tape
from job_harness.errors import UsageError

VERSION: Final = 1
NAME_DIGITS: Final = 6
"""Digits of a test's target that are of its name; as many more are of its source."""
LARGEST: Final = 1_000_000
"""Bytes that the content of a token may have."""
_HINT: Final = "A token is one word such as jh1_mfrggzdfmztwq2lk; copy it whole, from the line that printed it."
_SHAPE: Final = re.compile(r"jh(?P<version>\d+)_(?P<content>[a-z2-7]*)")
_COMMON: Final = (
    b'["time",1,"store clock behind 2.5s"],["w1 running a",1,"own clock drifts ahead"],'
    b'["queue expire",1,"deliver twice"],["w2 heartbeat a",1,"lose reply"],["w1 release a",1,"stop"],'
    b'["maintenance rescue",1,"lose request"],'
    b'["client-a enqueue a",2,"w2 first"],["time",3,"late by a timeout"],["w2 fail c",1,"pause a lease + a retry"],'
    b'["w3 poll",1,"crash after"],["w1 start b",1,"pause a cron"],["w1 claim",2,"crash"],["jitter",2,"1/2"],'
    b'["w1 complete a",1,"crash"],["jitter",1,"1/4"],["'
)
"""Deviations as they often are: the preset dictionary of zlib. Part of version 1, so never to be changed."""


@dataclass(frozen=True, slots=True)
class ReplayToken:
    """What a token says."""

    target: str
    """What was run: a digest, or another word without spaces that changes when the target does."""
    seed: int | None = None
    """What the run was drawn from; it is told, and draws nothing in a replay."""
    tape: Tape = ()

    def expect(self, target: str, *, called: str) -> None:
        """Raise UsageError where this token is of another target than the one that is `called` so."""
        if self.target != target:
            raise UsageError(
                f"this token was recorded for something else ({self.target}), not for {called} ({target})",
                hint="Replay it on what it was made for, as it was then; title, expectations and controls may differ.",
            )

    def expect_test(self, target: str, *, called: str) -> bool:
        """Return whether this token is of another version of this test. Raises UsageError for one of another test."""
        if self.target[:NAME_DIGITS] != target[:NAME_DIGITS]:
            self.expect(target, called=called)
        return self.target != target


def target_of_test(name: str, source: str) -> str:
    """Return the digests of what a test's token is of: the test by its name, and by its source."""
    return "".join(hashlib.sha256(text.encode()).hexdigest()[:NAME_DIGITS] for text in (name, source))


def target_of(scenario: Scenario) -> str:
    """Return the digest of what influences a run of this scenario on any engine."""
    bare = replace(scenario, title="", why="", tape=(), queue=None, application=None, expect={}, controls=(), path="")
    return hashlib.sha256(write_scenario(bare).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def encode(token: ReplayToken) -> str:
    """Write a token as one word of letters, digits and `_`."""
    content = [token.target, token.seed, *([item.label, item.nth, item.option] for item in token.tape)]
    packing = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=_COMMON)
    packed = packing.compress(json.dumps(content, separators=(",", ":")).encode()) + packing.flush()
    sealed = packed + zlib.crc32(packed).to_bytes(4, "big")
    return f"jh{VERSION}_{base64.b32encode(sealed).decode().rstrip('=').lower()}"


def decode(text: str) -> ReplayToken:
    """Read a token.

    Raises UsageError if it is not a token, is of another version, or is damaged.
    """
    word = text.strip().lower()
    found = _SHAPE.fullmatch(word)
    version = re.match(r"jh(\d{1,9})_", word)
    if version is not None and int(version[1]) != VERSION:
        raise UsageError(
            f"this replay token has version {version[1]}; this program reads version {VERSION}",
            hint="Replay it with the version of job-harness that printed it.",
        )
    if version is None:
        raise UsageError(f"{_quote(text)} is not a replay token", hint=_HINT)
    if found is None:
        raise UsageError(
            f"the replay token {_quote(text)} is damaged or cut off: it has characters other than a-z and 2-7",
            hint=_HINT,
        )
    try:
        return _token(json.loads(_unsealed(found["content"])))
    except (ValueError, TypeError, RecursionError, zlib.error, binascii.Error) as error:
        raise UsageError(f"the replay token {_quote(text)} is damaged or cut off: {error}", hint=_HINT) from None


def _unsealed(content: str) -> bytes:
    sealed = base64.b32decode(content.upper() + "=" * (-len(content) % 8))
    if base64.b32encode(sealed).decode().rstrip("=").lower() != content:
        raise ValueError("its last character holds bits that no byte has")
    packed, seal = sealed[:-4], sealed[-4:]
    if zlib.crc32(packed).to_bytes(4, "big") != seal:
        raise ValueError("its checksum does not fit; a part is missing or was changed")
    unpacking = zlib.decompressobj(-15, zdict=_COMMON)
    unpacked = unpacking.decompress(packed, LARGEST)
    if not unpacking.eof:
        raise ValueError(f"its content has over {LARGEST} bytes, or no end")
    return unpacked


def _token(content: Any) -> ReplayToken:
    target, seed, *deviations = content
    if not isinstance(target, str) or not (seed is None or type(seed) is int):
        raise ValueError("it names no target and seed")
    tape = [Deviation(label, nth, option) for label, nth, option in deviations]
    for item in tape:
        if not (isinstance(item.label, str) and type(item.nth) is int and isinstance(item.option, str)):
            raise ValueError(f"{item!r} is not a deviation")
    return ReplayToken(target, seed, tuple(tape))


def _quote(text: str) -> str:
    return repr(text) if len(text) <= 40 else repr(f"{text[:37]}...")
