"""What people type when a job misbehaves, and what it usually is: ranked by the words that they use.

The entries are in `symptoms.yaml`. Must not know: screens, pages, how anything is found in a run.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

QUEUE_NAMES: Final[Mapping[str, str]] = {
    "bullmq": "BullMQ",
    "pgboss": "pg-boss",
    "graphile": "graphile-worker",
    "celery": "Celery",
    "rq": "RQ",
    "sqs": "Amazon SQS",
    "procrastinate": "procrastinate",
    "pgqueuer": "PgQueuer",
    "table": "A table of your own",
    "any": "Any queue",
}
"""What the keys of a cause are called."""
_ONE_WORD: Final[Mapping[str, str]] = {
    word: words.split()[0]
    for words in (
        "job task message actor",
        "twice two double doubled duplicate duplicated duplicates multiple many times repeated again",
        "run ran runs running execute executed execution process processed processing",
        "lost lose disappear disappeared vanish vanished gone missing dropped drop",
        "stuck hang hangs hanging forever frozen",
        "retry retried retries retrying reattempt requeue requeued requeues",
        "cron schedule scheduled scheduler repeatable periodic recurring beat",
        "crash crashed crashes die died dies kill killed kills restart restarts oom",
        "start started starts begin picked pick",
        "fail failed fails failing failure error",
        "complete completed succeeded success successful finished finish finishes done",
        "send sent enqueue enqueued add added adding",
        "delay delayed eta countdown later",
        "charge charged payment paid bill billed customer",
        "email emails mail notification webhook",
        "worker workers consumer",
        "lock locks lease",
        "order ordering priority priorities prioritize prioritized fifo",
        "active busy",
        "deploy deployment release rollout sigterm shutdown",
        "unique deduplicate deduplication dedupe singleton",
        "concurrent concurrently parallel simultaneously once",
        "test tests testing",
    )
    for word in words.split()
}
"""By word, the one under which it is looked up."""
_EMPTY: Final = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be been but by do does for from get gets has have how i if in into is it its me my no of "
        "on or our so still that the their them then there they this to was we were what when which while why will "
        "with bull bullmq boss celery dramatiq graphile pgboss pg rq sidekiq sqs amazon aws",
    )
)
"""What says nothing of what is wrong: the name of the queue does not either."""


@dataclass(frozen=True, slots=True)
class LikelyCause:
    """One of the things that it may be."""

    why: str
    look: str
    """The command that shows whether it is this."""
    queues: Mapping[str, str]
    """By queue, how it looks there, and the rules of `check` that see it."""


@dataclass(frozen=True, slots=True)
class Symptom:
    """What is seen of it."""

    says: str
    also: tuple[str, ...]
    """Other words for it."""
    seen: tuple[str, ...]
    """Public issues that say it, as `owner/name#number`."""
    causes: tuple[LikelyCause, ...]
    """The likely ones first."""


@cache
def symptoms() -> tuple[Symptom, ...]:
    """Return all of them."""
    from ruamel.yaml import YAML  # Of those that import this module only few read the entries.

    text = resources.files("job_harness.review").joinpath("symptoms.yaml").read_text(encoding="utf-8")
    return tuple(
        Symptom(
            entry["says"],
            tuple(entry["also"]),
            tuple(entry.get("seen", ())),
            tuple(
                LikelyCause(cause["why"], cause["look"], {key: cause[key] for key in QUEUE_NAMES if key in cause})
                for cause in entry["causes"]
            ),
        )
        for entry in YAML(typ="safe").load(text)
    )


def ranked(words: str, *, most: int = 3) -> list[Symptom]:
    """Return the symptoms that these words are about, the nearest first; none where no word fits any."""
    wanted, plain = Counter(_words(words)), words.lower()
    scored = [(max(_nearness(wanted, said) for said in _sentences(each)), each) for each in symptoms()]
    order = sorted(scored, key=lambda pair: (-pair[0], pair[1].says.lower() != plain))
    return [each for score, each in order[:most] if score > 0]


def named_queues(words: str) -> frozenset[str]:
    """Return the queues that these words name."""
    said = re.sub(r"[^a-z ]", "", words.lower()).split()
    return frozenset(key for key, name in QUEUE_NAMES.items() if re.sub(r"[^a-z]", "", name.lower()) in said)


def _sentences(symptom: Symptom) -> Iterator[Counter[str]]:
    return (Counter(_words(said)) for said in (symptom.says, *symptom.also))


def _nearness(wanted: Counter[str], said: Counter[str]) -> float:
    """Compare two sentences by the words that they share; a rare one counts for more than `job`."""
    shared = sum(_weight(word) for word in wanted if word in said)
    both = sum(map(_weight, wanted)) * sum(map(_weight, said))
    return shared / math.sqrt(both) if both else 0.0


@cache
def _weight(word: str) -> float:
    entries = sum(any(word in said for said in _sentences(each)) for each in symptoms())
    return math.log((1 + len(symptoms())) / (1 + entries)) + 0.1


def _words(text: str) -> list[str]:
    """Return the words of a sentence that say something, each by its stem."""
    parted = re.sub(r"([a-z])([A-Z])", r"\1 \2", text)  # DeadlockDetected, maxStalledCount
    plain = re.findall(r"[a-z]+", parted.lower().replace("'s", "").replace("n't", " not"))
    return [_ONE_WORD.get(word) or _ONE_WORD.get(_stem(word)) or _stem(word) for word in plain if word not in _EMPTY]


def _stem(word: str) -> str:
    return re.sub(r"(?:ing|ed|es|s)$", "", word) if len(word) > 4 else word
