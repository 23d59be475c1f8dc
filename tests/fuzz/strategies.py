"""Inputs for the fuzzers: structurally plausible ones, from what the repository ships and generates, then mutated.

Text is mutated by spans, documents by subtrees. Hypothesis draws every choice, so that a failing input is made small.
Must not know: what is done with an input.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st
from ruamel.yaml import YAML
from tests.fuzz.judging import Files
from tests.unit.guide_repository import GUIDE, REPAIRED
from tests.unit.queue_repositories import QUEUES

from job_harness.core.history.jsonl import dump_history
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.core.scenario.replay_token import _COMMON, target_of
from job_harness.core.scenario.writer import write_scenario
from job_harness.engines.memory import MemoryEngine
from job_harness.search.sampling import Sampler

ROOT: Final = Path(__file__).resolve().parents[2]
SEEDS: Final = 24
"""Runs of the generic workload whose scenarios, tapes and histories are what mutation begins with."""
HOSTILE: Final = (
    "\x1b[31mred", "\x1b]0;title\x07", "\r", "\n::error file=x::owned\n", "::add-mask::x", "##[error]x", "\u202e",
    "\x00", "\ud800", "\x85", "\u2028", "٣", "²", "9" * 400, "9" * 5000, "1e999", "-1", "0", "0x1F", "nan", ".inf",
    "null", "~",
    "true", "{}", "[]", "[" * 3000, "{a: " * 500, "- " * 500, "&a [*a]", "*nowhere", "<<: *a",
    "!!python/object/apply:os.getcwd []", "!!binary x", "? ", "---\n", "%YAML 9.9\n", "\t", " " * 300, "x" * 5000, "'",
    '"', "\\", "# ", ": ", "- ", "\ufeff", "2001-01-01", "1_000", "999999999999 days", "1e400 s", "0.000000001s",
    "${HOME}", "%(x)s", "{0}", "../../x", "é", "𝔘", "%", "`", "(" * 200, "a\nb", "NaN", "-Infinity", "0.1", "1.5",
)  # fmt: skip
"""What has broken parsers, terminals and arithmetic before."""
VALUES: Final = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**40, 0.5, -0.0, 1e308, "", "a", "w1", "9" * 400, [], {}, [[]],
    {"": 0}, "\x1b[31m", "::error::x", "\ud800", "x" * 3000, ["a"] * 50, {"a": {"a": {"a": {}}}}, "1 s", "-1 s",
    "99999999 days",
)  # fmt: skip
_WORD: Final = re.compile(r"[\w.-]+|[^\w\s]")


# text -----------------------------------------------------------------------------------------------------------------


@st.composite
def mutated(draw: st.DrawFn, text: str, *, most: int = 4) -> bytes:
    """Draw a text with a few changes, as bytes; half of what is drawn has one change only."""
    for _ in range(draw(st.integers(0, most))):
        text = draw(st.sampled_from(_CHANGES))(draw, text)
    data = text.encode("utf-8", "surrogatepass")
    return data if draw(st.integers(0, 15)) else data[: draw(st.integers(0, len(data)))] + b"\xff"


def _span(draw: st.DrawFn, text: str, longest: int = 80) -> tuple[int, int]:
    start = draw(st.integers(0, max(0, len(text) - 1)))
    return start, min(len(text), start + draw(st.integers(1, longest)))


def _insert(draw: st.DrawFn, text: str) -> str:
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.sampled_from(HOSTILE)) + text[at:]


def _delete(draw: st.DrawFn, text: str) -> str:
    start, end = _span(draw, text)
    return text[:start] + text[end:]


def _repeat(draw: st.DrawFn, text: str) -> str:
    start, end = _span(draw, text)
    return text[:end] + text[start:end] * draw(st.sampled_from((1, 2, 60))) + text[end:]


def _replace_word(draw: st.DrawFn, text: str) -> str:
    words = list(_WORD.finditer(text))
    if not words:
        return text
    word = words[draw(st.integers(0, len(words) - 1))]
    other = draw(st.one_of(st.sampled_from(HOSTILE), st.sampled_from([item[0] for item in words])))
    return text[: word.start()] + other + text[word.end() :]


def _swap_lines(draw: st.DrawFn, text: str) -> str:
    lines = text.splitlines(keepends=True)
    if len(lines) < 2:
        return text
    one, two = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
    lines[one], lines[two] = lines[two], lines[one]
    return "".join(lines)


def _cut(draw: st.DrawFn, text: str) -> str:
    return text[: draw(st.integers(0, len(text)))]


_CHANGES: Final = (_insert, _delete, _repeat, _replace_word, _replace_word, _swap_lines, _cut)


# documents ------------------------------------------------------------------------------------------------------------


@st.composite
def changed(draw: st.DrawFn, document: Any, *, pool: Sequence[Any] = VALUES, most: int = 3) -> Any:
    """Draw a document with some of its parts replaced, dropped, repeated or renamed."""
    document = json.loads(json.dumps(document, default=str))
    for _ in range(draw(st.integers(0, most))):
        places = list(_places(document))
        if not places:
            return deepcopy(draw(st.sampled_from(list(pool))))
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.sampled_from(("replace", "replace", "drop", "repeat", "rename"))):
            case "replace":
                holder[key] = deepcopy(draw(st.one_of(st.sampled_from(list(pool)), st.sampled_from(VALUES))))
            case "drop":
                del holder[key]
            case "repeat" if isinstance(holder, list):
                holder[key:key] = [deepcopy(holder[key]) for _ in range(draw(st.sampled_from((1, 2, 40))))]
            case _ if isinstance(holder, dict):
                holder[draw(st.sampled_from((*HOSTILE[:12], *holder)))] = holder.pop(key)
            case _:
                holder.reverse()
    return document


def _places(document: Any) -> list[tuple[Any, Any]]:
    if isinstance(document, dict):
        return [place for key, value in document.items() for place in ((document, key), *_places(value))]
    if isinstance(document, list):
        return [place for key, value in enumerate(document) for place in ((document, key), *_places(value))]
    return []


def _json(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


# scenarios, tapes and tokens ------------------------------------------------------------------------------------------


@cache
def scenarios() -> tuple[str, ...]:
    """Return what ships and what the generic workload draws, those that need no file beside them."""
    shipped = [path.read_text() for path in sorted((ROOT / "scenarios").rglob("*.yaml"))]
    drawn = [write_scenario(run.scenario) for run in _runs()]
    return tuple(text for text in (*shipped, *drawn) if "application:" not in text and "processors:" not in text)


@cache
def _runs() -> tuple[Any, ...]:
    sampler = Sampler(MemoryEngine())
    return tuple(sampler.sample(seed) for seed in range(SEEDS))


@cache
def _document(text: str) -> Any:
    return YAML(typ="safe").load(text)


@cache
def _parts() -> tuple[Any, ...]:
    """Return every part of some scenarios, once each, to be put in the place of another."""
    some = [_document(text) for text in scenarios()[::4]]
    parts = {json.dumps(holder[key], default=str): 0 for each in some for holder, key in _places(each)}
    return tuple(json.loads(text) for text in sorted(parts, key=lambda text: (len(text), text)))


@st.composite
def scenario_inputs(draw: st.DrawFn) -> Files:
    """Draw a scenario file, changed as a text or as a document."""
    if draw(st.booleans()):
        return {"one.yaml": draw(mutated(draw(st.sampled_from(scenarios()))))}
    return {"one.yaml": _json(draw(changed(_document(draw(st.sampled_from(scenarios()))), pool=_parts())))}


@st.composite
def token_inputs(draw: st.DrawFn) -> Files:
    """Draw a scenario and a token: of its own tape or another's, changed before it is sealed or as a word after."""
    run = draw(st.sampled_from(_runs()))
    text = write_scenario(run.scenario)
    target = target_of(read_scenario_text(text))
    tape = [[item.label, item.nth, item.option] for item in draw(st.sampled_from(_runs())).tape]
    content = [target, draw(st.sampled_from((None, 7))), *(tape if draw(st.booleans()) else _own(run))]
    word = _sealed(draw(changed(content, pool=(target, *tape), most=2))).encode()
    return {"one.yaml": text.encode(), "token": draw(mutated(word.decode(), most=1)) if draw(st.booleans()) else word}


def _own(run: Any) -> list[Any]:
    return [[item.label, item.nth, item.option] for item in run.tape]


def _sealed(content: Any) -> str:
    """Seal what need not be a token's content, as `docs/contracts/replay_token.md` says."""
    packing = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=_COMMON)
    packed = packing.compress(json.dumps(content).encode()) + packing.flush()
    sealed = packed + zlib.crc32(packed).to_bytes(4, "big")
    return f"jh1_{base64.b32encode(sealed).decode().rstrip('=').lower()}"


# repositories and configuration files ---------------------------------------------------------------------------------


@cache
def _repositories() -> tuple[dict[str, str], ...]:
    return (GUIDE, REPAIRED, *(side for example in QUEUES for side in (example.bad, example.good)))


_NAMES: Final = (
    "render.yaml", "vercel.json", "package.json", ".env", ".env.production", "pyproject.toml", "requirements.txt",
    "docker-compose.yml", "Procfile", "Makefile", "schema.prisma", "a/b/c/queue.ts", "x.sql", "odd name.py", "crontab",
    "\x1b[31m.py", "::error::x.ts", "a\nb.sql", "pnpm-lock.yaml", "uv.lock", "celeryconfig.py", "é.ts", "-.py",
)  # fmt: skip


@st.composite
def repository_inputs(draw: st.DrawFn) -> Files:
    """Draw a repository: one or two of those that the rules are tested on, some files changed or renamed."""
    files = dict(draw(st.sampled_from(_repositories())))
    if draw(st.integers(0, 3)) == 0:
        files.update(draw(st.sampled_from(_repositories())))
    if draw(st.integers(0, 3)) == 0:
        files[draw(st.sampled_from(_NAMES))] = draw(st.sampled_from([*files.values(), *HOSTILE]))
    chosen = draw(st.sets(st.sampled_from(sorted(files)), max_size=3))
    return {
        name: draw(mutated(text)) if name in chosen else text.encode("utf-8", "surrogatepass")
        for name, text in files.items()
    }


@cache
def _configuration() -> dict[str, str]:
    entry = {"rule": "attempts_disagree", "file": "packages/database/pgboss.sql", "subject": "retry_limit"}
    baseline = {"format": "job-harness-check-baseline", "version": 2, "accepted": [entry]}
    verify = 'path = "/api/jobs"\nmethod = "POST"\nid = "job.id"\nhealth = ""\n[headers]\nx-a = "b"\n[body]\na = [1]\n'
    return {
        "baseline.json": json.dumps(baseline),
        "verify.toml": verify,
        "prod.env": 'A=1\nexport USE_PGBOSS_WORKERS=true\nDATABASE_URL="postgres://x"\n# c\nPGBOSS_BATCH_SIZE=5\n',
    }


@st.composite
def configuration_inputs(draw: st.DrawFn) -> Files:
    """Draw the files that a user names: a baseline, variables, the request of `verify`."""
    files: dict[str, bytes] = {}
    for name, text in _configuration().items():
        as_document = name == "baseline.json" and draw(st.booleans())
        files[name] = _json(draw(changed(json.loads(text)))) if as_document else draw(mutated(text, most=2))
    return files


# histories ------------------------------------------------------------------------------------------------------------


@cache
def _histories() -> tuple[str, ...]:
    return tuple(dump_history(run.history) for run in _runs())


@st.composite
def history_inputs(draw: st.DrawFn) -> Files:
    """Draw a history: some lines changed as text or as documents."""
    lines = draw(st.sampled_from(_histories())).splitlines()
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(lines) - 1))
        try:
            lines[at] = _json(draw(changed(json.loads(lines[at]), most=2))).decode("utf-8", "surrogatepass")
        except ValueError:  # It was changed into something that is no document.
            continue
    text = "\n".join(lines) + "\n"
    if draw(st.integers(0, 2)) == 0:
        return {"history.jsonl": draw(mutated(text, most=2))}
    return {"history.jsonl": text.encode("utf-8", "surrogatepass")}


# peers ----------------------------------------------------------------------------------------------------------------


_REPORTS: Final = (
    {"gate": 1, "actor": "1", "point": "sendMail", "with": ["ada@example.org"]},
    {"effect": "note", "actor": "1", "data": {"what": "it changed its input"}},
    {"effect": "log", "actor": None, "data": {}},
    {"idle": 1, "next": 1893456002000, "value": None},
    {"idle": 1, "next": None, "value": {"success": True, "output": 1}},
    {"idle": 1, "next": 0, "timers": [[1893456004000, 2000, "poll mail"], [1893456060000, None, "limit"]]},
    {"idle": 1, "next": None, "refused": "the job does not wait"},
    {"idle": 1, "next": None, "raised": "Error: connection terminated"},
    {"idle": 2, "next": None},
)
_HELLO: Final = {"hello": 1, "clock": True, "by": "Node v24.1.0"}


@st.composite
def peer_inputs(draw: st.DrawFn) -> Files:
    """Draw what a peer says before it is asked, and what it says then: reports, changed as documents or as text."""
    greeting = _json(draw(changed(_HELLO, most=1))) if draw(st.integers(0, 7)) == 0 else _json(_HELLO)
    reports = [*draw(st.lists(st.sampled_from(_REPORTS), max_size=4)), draw(st.sampled_from(_REPORTS[3:8]))]
    said = b"".join(_json(draw(changed(report, most=1))) + b"\n" for report in reports)
    if draw(st.integers(0, 2)) == 0:
        said = draw(mutated(said.decode("utf-8", "replace"), most=2))
    return {"hello": greeting + b"\n", "said": said}


_ENDINGS: Final = (
    {"result": {"success": True, "output": {"n": 1}, "error": None, "retryable": None}},
    {"result": {"success": False, "output": None, "error": "it broke", "retryable": False}},
    {"threw": {"name": "TypeError", "message": "x is undefined", "stack": "TypeError: x\n    at a.ts:1:1"}},
    {"bad": "the processor answered a number"},
)
_LOADING: Final = (
    {"effect": "loaded", "actor": None, "data": {}},
    {"effect": "failed", "actor": None, "data": {"name": "SyntaxError", "message": "no", "exports": ["a", "b"]}},
    {"effect": "registered", "actor": None, "data": {"what": "it registered another"}},
    {"effect": "fatal", "actor": "1", "data": {"kind": "exit", "error": {"name": "Error", "message": "gone"}}},
)


@st.composite
def typescript_inputs(draw: st.DrawFn) -> Files:
    """Draw what a Node peer says while it loads a processor, and while it runs one job."""
    loading = [draw(changed(each, most=1)) for each in draw(st.lists(st.sampled_from(_LOADING), max_size=1))]
    loaded = [*loading, _LOADING[0], {"idle": 1, "next": None}]
    ended = {"effect": "ended", "actor": "1", "data": draw(st.sampled_from(_ENDINGS))}
    effects = [
        *draw(st.lists(st.sampled_from((*_REPORTS[:3], *_LOADING)), max_size=2)),
        ended,
        {"idle": 2, "next": None},
    ]
    said = [draw(changed(report, most=1)) for report in effects]
    return {
        "loaded": b"".join(_json(each) + b"\n" for each in loaded),
        "said": b"".join(_json(each) + b"\n" for each in said),
    }


# systems under `verify` -----------------------------------------------------------------------------------------------


_ROWS: Final = tuple(
    {"status": status, "started": started, "error": error}
    for status in ("PENDING", "PROCESSING", "COMPLETED", "FAILED", "CANCELLED")
    for started in (None, "2030-01-01T00:00:00Z")
    for error in (None, "it broke")
)
_HEAD: Final = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
_BODIES: Final = ('{"id": "a", "job": {"id": 7}}', '{"workers": {"enabled": false, "reason": "off"}}', "[]", "")


@st.composite
def answer_inputs(draw: st.DrawFn) -> Files:
    """Draw what a running system answers: the bytes of an HTTP answer, then the rows of its table, look by look."""
    files = {}
    for name in ("created", "health"):
        head = draw(mutated(_HEAD, most=1)) if draw(st.integers(0, 3)) == 0 else _HEAD.encode()
        files[name] = head + draw(mutated(draw(st.sampled_from(_BODIES)), most=2))
    rows: list[Any] = draw(st.lists(st.sampled_from((None, *_ROWS)), max_size=5))
    files["rows.json"] = json.dumps([row and draw(changed(row, most=1)) for row in rows]).encode()
    return files
