"""`job-harness explain NAME` and `job-harness docs`: what a name on a screen means, and the pages without a browser."""

from __future__ import annotations

import argparse
import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from job_harness.core.faults import FaultKind, kinds
from job_harness.core.invariants import ANOMALIES, CATALOGUE, AnomalyKind, Invariant, kind_of
from job_harness.core.invariants.property import Guarantee
from job_harness.core.model import Design, Settings
from job_harness.core.scenario.schema import SettingsPart, sentences
from job_harness.doors.documentation import about, documentation, joined, split
from job_harness.errors import EnvironmentUnavailable, ExitCode, UsageError, available, did_you_mean
from job_harness.report.screen import setting_text
from job_harness.review.audit.recording import ways
from job_harness.review.check.catalogue import RULES
from job_harness.review.check.finding import Rule
from job_harness.review.check.pages import rule_pages
from job_harness.review.symptoms import ranked
from job_harness.search.incident import CAUSES, IncidentCause
from job_harness.search.wrong_queues.catalogue import CATALOGUE as MISTAKES

WIDTH: Final = 80
DESIGNS: Final = tuple(map(str, Design))
"""The words of `design` in a queue file."""
REPAIRS: Final[Mapping[Guarantee, str]] = {
    Guarantee.AT_LEAST_ONCE: "Take back the jobs of dead workers: let leases expire, and make sure that a reaper runs. "
    "Write the job and its queue row in one transaction.",
    Guarantee.UPDATES: "Read and write in one statement, or lock the row first (SELECT ... FOR UPDATE).",
    Guarantee.TRUTHFUL_RESULT: "Write status and result in one statement, and only if the claim is the current one.",
    Guarantee.ONE_AT_A_TIME: "Make the lease longer than the longest run, or extend it by heartbeats. Take jobs back "
    "by their lease, not by their age.",
    Guarantee.FENCING: "Give each claim a token, and check it in the WHERE of complete, fail and heartbeat.",
    Guarantee.BOUNDED_ATTEMPTS: "Count the attempt in the statement that claims the job, and check the limit first.",
    Guarantee.ISOLATION: "Settle each job by itself: one bad row, error text or output must not fail its batch.",
    Guarantee.WAITING: "Lock rows in the same order everywhere, or with SKIP LOCKED.",
    Guarantee.CANCELLATION: "Let complete and fail change nothing if the job is cancelled.",
    Guarantee.UNIQUENESS: "Enforce the key by a unique index over unfinished jobs, and free it however a job ends.",
    Guarantee.ATOMIC_ENQUEUE: "Enqueue in the transaction of the caller, and return an error if no row was written.",
    Guarantee.CRON: "Give each slot of a schedule a unique key, so that a second look at it inserts nothing.",
    Guarantee.CONCURRENCY: "Count running jobs inside the claiming statement, under a lock, and free the permit "
    "however a job ends.",
    Guarantee.PROGRESS: "Claim whatever is due and allowed: one blocked row must not hide the next.",
    Guarantee.DEAD_LETTERS: "Write the dead letter in the statement that fails the job for good.",
    Guarantee.OPTIONS: "Pass every option on, however a job is created, also by the scheduler, and create only jobs "
    "that were asked for.",
    Guarantee.CLAIMS: "Check the worker's tools, its limit and paused tools in the statement that takes the job.",
    Guarantee.SCHEDULE: "Compare with the store's clock, and order by priority and age in the claim itself.",
    Guarantee.CONSISTENCY: "Change both tables in one transaction, and reconcile them after a crash.",
    Guarantee.REPEATABLE_MAINTENANCE: "Let maintenance check again, in the statement that changes a row, "
    "what it read before.",
    Guarantee.STORE_CLOCK: "Use now() of the database, never a time that a worker sends.",
    Guarantee.FLOWS: "Let a job be claimed only once all it depends on is completed, and end it if one of them "
    "fails. Send the callback of a group in the transaction that ends its last job.",
    Guarantee.RETENTION: "Delete only jobs that have ended, by the time at which they ended.",
    Guarantee.OWN: "Look at the check of this name in your test or your file.",
}
"""What usually repairs the loss of a guarantee: a hint, not a diagnosis. A finding shows what happened."""
_UNCLAIMABLE: Final = (
    "Compare the job with the WHERE of the claim: attempts, start time, lock, queue. What gives back a job without "
    "an attempt left (expire, retry) has to fail it, or raise its limit."
)
REPAIRS_OF: Final[Mapping[str, str]] = {
    "job_never_run": _UNCLAIMABLE,
    "due_job_left": _UNCLAIMABLE,
    "concurrent_execution": "Make the lease longer than the longest run, or extend it by heartbeats. Take jobs back "
    "by their lease, not by their age, and let an operator retry only what has ended.",
    "terminal_job_revived": "Let the statement that starts a job take only one that has not ended (WHERE status = "
    "...), and let the worker settle a delivery of one that has without running it.",
    "tables_disagree": "Change both tables in one transaction, and reconcile them after a crash. Of a batch, settle "
    "each job by itself, or take one at a time: otherwise those that are done wait for the last one, and go back with "
    "one that fails.",
}
"""The same for an anomaly that its guarantee does not tell enough of."""
BY_PROMISE: Final = {"at_most_once": "effect_repeated", "exactly_once": "effect_missing"}
"""What is reported where a promise of a test or of a system file is broken."""
OF_A_TEST: Final[Mapping[str, tuple[str, str]]] = {
    "effect_key_varies": (
        "The key of a side effect comes from chance or a clock, so another attempt has another one.",
        "Take the key from the job: its id or its input. Or draw it once, and store it before it is used.",
    ),
    "deploy_costs_attempt": (
        "A deploy cost a job one of its attempts, although the system file promises that it costs none.",
        (
            "On SIGTERM stop claiming, and give back what cannot be finished within the grace, its attempt counted "
            "down. Or give the process a longer grace than its longest job."
        ),
    ),
    "effect_missing": (
        "A job completed, but a side effect that must happen exactly once never happened.",
        "Mark the work as done in the transaction that does it, or after it: a worker may die between the two.",
    ),
    "effect_repeated": (
        "A side effect that may happen at most once happened again.",
        (
            "Send an idempotency key that is the same in every attempt: a worker may die right after the effect. In a "
            "system file, say where the key is by `key` of a host under `outside`."
        ),
    ),
    "effect_without_key": (
        "A side effect lacks a key of `at_most_once(..., per=[...])`, so its repetitions cannot be recognised.",
        "Correct the key, or give it to effect() where the side effect is declared.",
    ),
    "not_compensated": (
        "A workflow failed, and what it had done outside was not taken back.",
        "Compensate in the workflow itself, as a step that its engine repeats: an except block dies with its worker.",
    ),
    "nondeterministic_replay": (
        "A resumed run took another step than the one that is recorded there.",
        "Let no clock, chance or setting decide between steps: read them in a step, whose result is stored.",
    ),
    "signal_taken_twice": (
        "A signal, an approval or a timer was taken twice.",
        "Mark it as taken in the transaction that records what follows from it.",
    ),
    "step_out_of_order": (
        "A step began before those before it were recorded.",
        "Await each step before the next one begins.",
    ),
    "step_repeated": (
        "A step began again although its engine had recorded it as done.",
        "Look whether the store outlives the worker, and whether the resumed run has the same identifier.",
    ),
    "step_unrecorded": (
        "A job completed whose step was done, and is neither recorded nor compensated.",
        "Record a step before the run goes on.",
    ),
    "invariant_violated": (
        "A check that a test gave to always() did not hold.",
        "Look at the event at which it broke: what happened just before it is the cause.",
    ),
}
"""Anomalies that no invariant of the catalogue has: a test's own. What they mean, and what usually repairs them."""


def configure_explain(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "name",
        nargs="*",
        metavar="NAME",
        help="an anomaly, an invariant, a rule of check, a fault, a wrong queue, a setting, or a word of the glossary",
    )


def execute_explain(arguments: argparse.Namespace) -> int:
    """Print what is known of a name; without one, the names."""
    print("\n".join(_explain_each(arguments.name) if arguments.name else _names()))
    return int(ExitCode.PASS)


def _explain_each(words: list[str]) -> list[str]:
    """Explain one name, which may have several words, or each of several. Raises UsageError for an unknown one."""
    try:
        return find_explanation(" ".join(words))
    except UsageError:
        if len(words) == 1 or not any("_" in word for word in words):
            raise
    return [line for word in words for line in (*find_explanation(word), "")]


def find_explanation(name: str) -> list[str]:
    """Return the explanation of a name, in lines. Raises UsageError where nothing is called so."""
    name = BY_PROMISE.get(name, name)
    if explained := list(_judgement(name)) or list(_disturbance(name)):
        return explained
    if (cause := next((each for each in CAUSES if each.words == name), None)) is not None:
        return list(_cause(cause))
    if name in DESIGNS:
        return list(_design(name))
    glossary = dict(_glossary())
    if name in Settings.names():
        return list(_setting(name, glossary.get(name)))
    if term := next((glossary[word] for word in _singular(name) if word in glossary), None):
        return [*_headed(term.name, "a word of the glossary"), *_wrap_text(_ended(term.meaning))]
    invariants = (invariant.id for invariant in CATALOGUE)
    known = [*ANOMALIES, *OF_A_TEST, *invariants, *RULES, *MISTAKES, *kinds(), *DESIGNS, *Settings.names(), *glossary]
    if (same := next((one for one in known if one != name and _plain(one) == _plain(name)), None)) is not None:
        return find_explanation(same)
    raise UsageError(
        f"nothing is called {name!r}{did_you_mean(name, known)}",
        hint=f"{available(known, near=name)} `job-harness explain` lists the names; "
        f"`job-harness docs --find {shlex.quote(name)}` searches the docs.",
    )


def _judgement(name: str) -> Iterator[str]:
    """Explain what is judged, and reported: an anomaly, an invariant, a rule of check."""
    if name in ANOMALIES:
        yield from _anomaly(*ANOMALIES[name])
    elif name in OF_A_TEST:
        sentence, repair = OF_A_TEST[name]
        yield from _headed(name, "an anomaly: a promise of a test or a system file was broken")
        yield from _wrap_text(sentence)
        yield ""
        yield from _wrap_text(f"What usually repairs it: {repair}")
    elif (invariant := next((each for each in CATALOGUE if each.id == name), None)) is not None:
        yield from _invariant(invariant)
    elif name in RULES:
        yield from _rule(RULES[name])


def _disturbance(name: str) -> Iterator[str]:
    """Explain what a run meets: a wrong queue, a fault."""
    if name in MISTAKES:
        yield from _headed(name, "a wrong queue: one planted mistake")
        yield from _wrap_text(MISTAKES[name].sentence)
        yield ""
        yield from _wrap_text(f"It shows: {', '.join(MISTAKES[name].finds)}.")
        yield f"See it: job-harness explore memory+{name}"
    elif (fault := next((kind for kind in kinds().values() if name in _words_for(kind)), None)) is not None:
        yield from _headed(fault.id, "a fault that a run may have")
        yield from _wrap_text(fault.sentence)
        yield ""
        yield from _wrap_text(f"On a tape: {', '.join(f'`{phrase}`' for phrase in fault.words)}")
        yield f"Steps of a scenario: {fault.step}"


def _cause(cause: IncidentCause) -> Iterator[str]:
    yield from _headed(cause.words, "what may have led to an incident, as job-harness reproduce names it")
    if cause.faults:
        yield from _wrap_text(f"In a run: {', '.join(kind.id for kind in cause.faults)} (explain says what each is).")
    yield from _wrap_text(f"What tells it from the others: {cause.tells}.")


def repair_of(anomaly: str) -> str:
    """Say what usually repairs an anomaly: a hint, not tried on the code at hand."""
    return REPAIRS_OF.get(anomaly, REPAIRS[kind_of(anomaly).guarantee])


def _words_for(kind: FaultKind) -> Iterator[str]:
    """List what a fault is called: by its id, on a tape, and where a search counts it."""
    yield kind.id
    yield from (phrase.words.strip() for phrase in kind.words)
    yield from kind.nouns


def _design(name: str) -> Iterator[str]:
    """Explain a word of a contract by its row in the docs, which links to other pages."""
    row = rf"^\| `{name}` \| (.+?) \| (.+?) \|$"
    told = re.search(row, split(documentation()).get("conformance", ""), re.MULTILINE)
    meaning, seen = told.groups() if told is not None else ("see `job-harness docs conformance`", "other queues")
    yield from _headed(name, "a design that is right, and that a queue file or a contract names")
    yield from _wrap_text(_ended(f"{meaning[0].upper()}{meaning[1:]}"))
    yield from _wrap_text(_ended(f"Seen in {seen}"))
    yield ""
    yield f"In a queue file: design: [{name}]"
    yield from _wrap_text(f"In a contract: Contract(designs=frozenset({{Design.{Design(name).name}}}))")


def _setting(name: str, term: _Term | None) -> Iterator[str]:
    yield from _headed(name, f"a setting (default: {setting_text(name, getattr(Settings(), name))})")
    yield from _wrap_text(sentences()[SettingsPart.__name__][name])
    if term is not None:
        yield from _wrap_text(_ended(f"In the glossary: {term.meaning[0].lower()}{term.meaning[1:]}"))
    yield ""
    yield from _wrap_text(
        f"Set it: under `settings` of a scenario, a queue file or a system file; or --set {name}=VALUE"
    )


class _Term(NamedTuple):
    """A row of the glossary."""

    name: str
    meaning: str


def _glossary() -> Iterator[tuple[str, _Term]]:
    """Return the words of the glossary, and the other words for the same thing, each with its row."""
    terms = _terms()
    for term in terms:
        also = re.search(r"\b[Aa]lso ((?:[\w-]+ ?)+(?:, (?:[\w-]+ ?)+)*)$", term.meaning)
        yield from ((word, term) for word in (also[1].split(", ") if also else ()))
    for term in terms:  # a row of its own outweighs another word for something else
        yield from ((word.lower(), term) for word in term.name.split(", "))


def _terms() -> list[_Term]:
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", split(documentation()).get("glossary", ""), re.MULTILINE)
    plain = ((name.replace("`", ""), re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", meaning)) for name, meaning in rows)
    return [_Term(name, meaning[0].upper() + meaning[1:]) for name, meaning in plain if name not in ("term", "---")]


def _ended(text: str) -> str:
    """Return a row of a table as a sentence, which ends with a full stop."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _plain(name: str) -> str:
    """Return a name as `lost update`, `Lost-Update` and `lost_update` have in common."""
    return re.sub(r"[\s_-]+", " ", name).lower()


def _singular(name: str) -> tuple[str, ...]:
    """Return what the glossary may call it: what is written here as there, in lower case, or as one of several."""
    word = name.lower()
    return (word, word.removesuffix("s"), re.sub(r"ies$", "y", word), re.sub(r"es$", "", word))


def _anomaly(invariant: Invariant, kind: AnomalyKind) -> Iterator[str]:
    yield from _headed(kind.name, "an anomaly: an invariant was broken")
    yield from _wrap_text(kind.sentence)
    yield ""
    yield from _wrap_text(f"{kind.label}: {kind.guarantee}")
    yield from _wrap_text(f"Invariant: {invariant.sentence} (`{invariant.id}`, judged {_when(invariant)})")
    yield ""
    yield from _wrap_text(f"What usually repairs it: {repair_of(kind.name)}")
    shown = [mistake for mistake in MISTAKES.values() if kind.name in mistake.finds]
    if shown:
        yield ""
        yield "Mistakes that can lead to it (job-harness reproduce finds what did, in production):"
        for mistake in sorted(shown, key=lambda each: each.anomaly != kind.name)[:3]:
            yield from _wrap_text(f"  {mistake.name}: {mistake.sentence}", indent="    ")
    if told := ways(kind.name):
        yield from _wrap_text(f"In production it shows in {'; or '.join(told)}.")
    yield ""
    yield f"Look for it: job-harness explore ENGINE|queue.yaml --looking-for {kind.name}"
    yield f"Intended?    --without {kind.name}"


def _invariant(invariant: Invariant) -> Iterator[str]:
    yield from _headed(invariant.id, f"an invariant, judged {_when(invariant)}")
    yield from _wrap_text(invariant.sentence)
    yield ""
    yield "Its anomalies:"
    for kind in invariant.anomalies:
        yield from _wrap_text(f"  {kind.name}: {kind.sentence}", indent="    ")


def _rule(rule: Rule) -> Iterator[str]:
    yield from _headed(rule.id, f"a rule of `job-harness check` ({rule.severity})")
    yield from _wrap_text(rule.sentence)
    yield ""
    yield from _wrap_text(f"What happens otherwise: {rule.prevents}")
    yield from _wrap_text(f"Repair: {rule.repair}")
    yield ""
    yield "Accept it where it stands: see `job-harness check --help` (--baseline)"


def _when(invariant: Invariant) -> str:
    return (
        "at every step"
        if invariant.kind == "always"
        else "at rest"
        if invariant.kind == "eventually"
        else "over a campaign"
    )


def _headed(name: str, what: str) -> Iterator[str]:
    yield f"{name}: {what}"
    yield ""


def _wrap_text(text: str, *, indent: str = "  ") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, subsequent_indent=indent if ":" in text.split(" ")[0] or text.startswith(" ") else ""
    )


def _names() -> Iterator[str]:
    """List all names, by what they are."""
    for what, names in (
        ("anomalies", [*ANOMALIES, *OF_A_TEST]),
        ("invariants", [invariant.id for invariant in CATALOGUE]),
        ("rules of check", RULES),
        ("faults", kinds()),
        ("wrong queues", MISTAKES),
        ("designs", DESIGNS),
        ("settings", Settings.names()),
        ("words of the glossary", [term.name for term in _terms()]),
    ):
        yield f"{what}:"
        yield from textwrap.wrap(
            ", ".join(names), WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
        )
    yield ""
    yield "job-harness explain NAME says what one of them means."


# docs -----------------------------------------------------------------------------------------------------------------


def configure_docs(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_mutually_exclusive_group().add_argument
    add("page", nargs="?", metavar="PAGE", help="one page, such as pytest (default: all, as one text)")
    add("--list", action="store_true", help="list the pages, each with its first sentence")
    add("--find", metavar="WORDS", help="list the headings whose sections have all of these words")


def execute_docs(arguments: argparse.Namespace) -> int:
    """Print the docs, or a part of them."""
    text = documentation()
    if not text:
        raise EnvironmentUnavailable("this installation has no docs", hint="Install the wheel, or a checkout.")
    text += "\n" + joined({f"docs/{name}.md": page for name, page in rule_pages().items()})
    pages = split(text)
    if arguments.list:
        for name, page in pages.items():
            title, sentence = about(page)
            print(f"{name}: {title}. {sentence}")
    elif arguments.find is not None:
        words = arguments.find.lower().split()
        if not words:
            raise UsageError("--find names no words", hint="Write job-harness docs --find 'unique key'.")
        meant = (f"symptoms: {symptom.says}" for symptom in ranked(arguments.find, most=1))
        found = list(dict.fromkeys([*meant, *_found(pages, words)]))
        print("\n".join(found) or f"no section has all of {arguments.find!r}")
        return int(ExitCode.PASS if found else ExitCode.FAIL)
    elif arguments.page:
        name = arguments.page.partition("#")[0].removeprefix("docs/").removesuffix(".md")
        if name not in pages:
            raise UsageError(
                f"there is no page {name!r}{did_you_mean(name, pages)}",
                hint="`job-harness docs --list` lists the pages.",
            )
        print(pages[name], end="")
    else:
        print(text, end="")
    return int(ExitCode.PASS)


def _found(pages: Mapping[str, str], words: list[str]) -> list[str]:
    """Return the sections that have all of these words, those first that have most of them in their headings."""
    found: list[tuple[int, str]] = []
    for name, page in pages.items():
        title = f"{name} {about(page)[0]}".lower()
        for section in re.split(r"^(?=#+ )", _CODE.sub(_without_headings, page), flags=re.MULTILINE):
            if all(word in section.lower() for word in words):
                heading = section.splitlines()[0].lstrip("# ")
                near = sum((word in heading.lower()) + (word in title) for word in words)
                found.append((-near, f"{name}: {heading}"))
    return [line for _, line in sorted(found, key=lambda each: each[0])]


_CODE: Final = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def _without_headings(code: re.Match[str]) -> str:
    """Return code whose comments are not taken for headings."""
    return code[0].replace("\n#", "\n #")
