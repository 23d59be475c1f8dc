"""A queue file, format 1: its keys, what it says of the queue, and the JSON schema that editors complete it by.

A `QueueFile` is everything that can be known of a queue without a database: the statements of each
verb, what they can do, which settings they honour. Knows no connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema

from job_harness.core.invariants import ANOMALIES
from job_harness.core.invariants.rows import NoRowPromise
from job_harness.core.model import LONGEST, Design, Duration, Settings, Status
from job_harness.core.port import Capabilities, Contract
from job_harness.core.scenario.document import YamlDocument, read_document
from job_harness.core.scenario.reader import problems_of
from job_harness.core.scenario.schema import (
    DURATION_SCHEMA,
    GAP,
    NoNulls,
    NoRowPart,
    SettingsPart,
    Text,
    described,
    length_or_gap,
    read_duration,
)
from job_harness.core.yaml_files import LARGEST
from job_harness.engines.queue_file.statement import QueueFileError, SqlSource, Statement, read_statements, up_half
from job_harness.errors import did_you_mean
from job_harness.worlds.sql import code, words

# the keys -------------------------------------------------------------------------------------------------------------


DURATIONS: Final = ("lease", "job_timeout", "stuck_timeout", "retry_delay", "retry_delay_max", "retention")
"""Settings that any statement may ask for: `:lease` is an interval, `:lease_seconds` a number."""
SETTINGS: Final = frozenset({"max_attempts", "retry_backoff", *DURATIONS, *(f"{name}_seconds" for name in DURATIONS)})
_RESCUES: Final = tuple(
    f"maintenance/{case}" for case in ("cron_is_late", "rescue_respects_max_attempts", "rescues_stuck_job")
)
"""Cases of a cron that looks for stuck jobs beside leases, which no file can describe."""
_BETWEEN_CLAIMS: Final = ("crashes/before_starting", "crashes/while_running")
"""Cases that expect a job to be PENDING between the claim of a worker that died and the next."""
HELD: Final = frozenset({"job", "token", "worker", "process", "attempt"})
"""What a worker knows of its claim."""
OF_VERB: Final[Mapping[str, frozenset[str]]] = {
    "enqueue": frozenset(
        {"job", "queue", "tool", "input", "priority", "start_after", "unique_key", "serial_key", "depends_on"}
        | {"group", "group_size"}
    ),
    "claim": frozenset({"worker", "process", "queue", "limit"}),
    "heartbeat": HELD,
    "complete": HELD | {"output"},
    "fail": HELD | {"error", "final", "delay", "delay_seconds"},
    "release": HELD,
    "cancel": frozenset({"job"}),
    "retry": frozenset({"job"}),
    "expire": frozenset(),
    "purge": frozenset(),
    "jobs": frozenset(),
}
"""By verb, the parameters that it has beside the settings and `:now`."""
VERBS: Final = tuple(name for name in OF_VERB if name != "jobs")
COLUMNS: Final[Mapping[str, str]] = {
    "id": "the job's name, as :job was given to enqueue",
    "key": "what the other verbs are given as :job, where that is not the id",
    "status": "its status, one of those under `status`",
    "attempts": "how often it was delivered",
    "tool": "",
    "priority": "",
    "max_attempts": "how often it may be delivered",
    "token": "what tells one claim of it from the next, of any type; attempts, if there is none",
    "worker": "who holds it",
    "output": "",
    "error": "",
    "unique_key": "",
    "serial_key": "no two jobs that have the same run at once",
    "depends_on": "an array of the ids of jobs that have to be COMPLETED before it begins",
    "group": "the group that it belongs to",
    "callback_of": "the group whose callback it is: it runs once, after the last job of that group has ended",
    "created_at": "",
    "start_after": "when it may be claimed",
    "started_at": "",
    "lease_until": "when its claim ends",
    "completed_at": "",
    "expires_at": "when purge may delete it",
    "input": "",
}
"""The columns that `jobs` may have, and what they mean."""
NEEDED: Final = ("id", "status", "attempts")
MEANINGS: Final[Mapping[str, Status]] = {str(status): status for status in Status}
"""What statuses mean that are called as the harness calls them."""
OPEN_STATUS: Final = "TODO_"
"""What a draft writes before a meaning whose status it does not know, in place of that status."""
_PARAMETERS: Final = {"job_timeout": "lease", "heartbeat_interval": "lease", "batch_size": "limit"}
"""The parameter that a statement takes for a setting, where the two are not called the same."""
_SQL: dict[str, Any] = {"type": "string", "minLength": 1, "contentMediaType": "application/sql"}
Sql = Annotated[Text, Field(min_length=1), WithJsonSchema(_SQL)]


_LENGTHS: Final = WithJsonSchema({"anyOf": [DURATION_SCHEMA, {"type": "string", "pattern": GAP}]})
_Lease = Annotated[tuple[Duration, Duration], BeforeValidator(partial(length_or_gap, positive=True)), _LENGTHS]
NONE: Final = "none"
"""What a file says of a setting that its queue does not have."""


_NEVER: Final = -1


def _or_none(value: Any) -> Duration:
    """Read a duration; `none` stands apart."""
    if value != NONE and (duration := read_duration(value)) <= 0:
        raise ValueError(f"{value!r} is not accepted: it must be longer than 0")
    return _NEVER if value == NONE else duration


_OrNone = Annotated[Duration, BeforeValidator(_or_none), WithJsonSchema({"anyOf": [DURATION_SCHEMA, {"const": NONE}]})]
_Wait = Annotated[tuple[Duration, Duration], BeforeValidator(length_or_gap), _LENGTHS]


class QueueSettingsPart(SettingsPart):
    """What a queue runs under: `lease` and `retry_delay` may be a gap, from the shortest to the longest."""

    lease: _Lease = (0, 0)  # type: ignore[assignment]
    """How long a claim lasts without a heartbeat: `10s`, or `9500ms..10500ms` where chance is added."""
    retry_delay: _Wait = (0, 0)  # type: ignore[assignment]
    """The wait after a failed attempt, before backoff: `10s`, or `10s..15s` where chance is added."""

    job_timeout: _OrNone = 0
    """A processor is stopped after this; `none`: never, so that jobs outlast their lease."""
    retry_delay_max: _OrNone = 0
    """The longest wait that backoff may reach; `none`: there is none."""

    @property
    def longest(self) -> dict[str, Duration]:
        """By setting that chance lengthens, its longest."""
        gaps = {name: getattr(self, name) for name in ("lease", "retry_delay")}
        return {name: longest for name, (shortest, longest) in gaps.items() if longest > shortest}

    def given(self) -> dict[str, Any]:
        """Return the settings that were written down; of a gap, the shortest."""
        given = {name: each[0] if isinstance(each, tuple) else each for name, each in super().given().items()}
        if given.get("retry_delay_max") == _NEVER:
            given["retry_delay_max"] = LONGEST
        if given.get("job_timeout") == _NEVER:
            given["job_timeout"] = 2 * given.get("lease", Settings().lease)
        return given


class QueueFilePart(NoNulls):
    """A queue in a table of your own: where its schema is, the SQL of each verb, and how its rows are read."""

    nullable: ClassVar[frozenset[str]] = frozenset()

    format: Literal[1]
    queue: Annotated[Text, Field(min_length=1, max_length=200)]
    """What reports call it."""
    schema_: Text | list[Text] | None = Field(default=None, alias="schema", min_length=1)
    """A file of SQL beside this one, several, or the SQL itself."""
    connection: Text | None = Field(default=None, min_length=1)
    """A database whose tables are copied, empty: a URL, or env:NAME. It is only read."""
    tables: list[Text] | None = Field(default=None, min_length=1)
    """The only tables that verbs may change; without it, any of the schema."""
    ids: Literal["text", "uuid", "integer"] = "text"
    """What `:job` is."""
    queues: list[Text] | None = Field(default=None, min_length=1)
    """The queues in the table, by name: `:queue` is one of them, in enqueue and in claim."""
    settings: QueueSettingsPart = QueueSettingsPart()
    """What the queue runs under; what no statement asks for as a parameter stays as it is here."""
    enqueue: Sql
    """Sends a job. No row: refused, as with ON CONFLICT DO NOTHING."""
    claim: Sql
    """Takes jobs, and returns the id or the key of each, and its token where it has one."""
    heartbeat: Sql | None = None
    """Extends a claim. This and the verbs below are refused where their last statement changes no row."""
    complete: Sql
    """Ends a job well."""
    fail: Sql
    """Ends an attempt badly: again later, or for good."""
    release: Sql | None = None
    """Gives a job back unrun."""
    cancel: Sql | None = None
    """Cancels a job."""
    retry: Sql | None = None
    """Gives a job that ended a new budget of attempts."""
    expire: Sql | None = None
    """Takes back the jobs of workers that died."""
    purge: Sql | None = None
    """Deletes what ended long ago."""
    jobs: Sql
    """Reads all jobs: one row for each."""
    status: dict[str, Literal["PENDING", "PROCESSING", "COMPLETED", "FAILED", "CANCELLED"]] = Field(
        default_factory=dict
    )
    """What each status in the table means; without it, they are called as the harness calls them."""
    takes_back: Literal["by expire", "inside claim", "never"] | None = None
    """Who takes back the job of a worker that died, where no `expire` does."""
    final_errors: bool | None = None
    """Whether a worker can say that another attempt is of no use; by default, whether `fail` asks for :final."""
    fencing: bool = True
    """Whether a claim that was taken back must change nothing."""
    design: list[Annotated[Design, Field(strict=False)]] = Field(default_factory=list)
    """What the queue does on purpose otherwise than most do."""
    without: dict[str, Text] = Field(default_factory=dict)
    """Anomalies that are meant to be so, each with the reason; they are not reported."""
    no_row: dict[Annotated[Text, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$")], NoRowPart] = Field(
        default_factory=dict
    )
    """By name, SELECTs that must return no row: after every change, or once everything has come to rest."""
    draft: bool = False
    """Whether the statements are still those that `init` wrote, and not those of the code."""


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of queue files."""
    schema = QueueFilePart.model_json_schema(mode="validation", by_alias=True)
    for part in schema["properties"].values():
        part.pop("title", None)
        part.pop("default", None)
    schema["properties"]["without"]["propertyNames"] = {"enum": sorted(ANOMALIES)}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "job-harness queue file"}


# what a file says -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QueueFile:
    """A queue file that was read, and makes sense as far as that shows without a database."""

    path: str
    queue: str
    schema: tuple[SqlSource, ...]
    """SQL that makes the tables; empty: they are copied from `connection`."""
    connection: str | None
    tables: frozenset[str]
    ids: str
    queues: tuple[str, ...]
    """Queues that the table holds, by name; empty: one, without a name."""
    verbs: Mapping[str, tuple[Statement, ...]]
    """The statements of each verb that it has."""
    jobs: Statement
    status: Mapping[str, Status]
    settings: Settings
    given: frozenset[str]
    """The settings that the file itself sets; the others are defaults."""
    longest: Mapping[str, Duration]
    """By setting that chance lengthens, its longest."""
    takes_back: str
    final_errors: bool
    fencing: bool
    designs: frozenset[Design]
    without: Mapping[str, str]
    no_row: tuple[NoRowPromise, ...]
    draft: bool
    lines: Mapping[str, int]
    """By key, its line; of a setting, by `settings.lease`."""

    def place(self, key: str) -> str:
        """Return `file:line` of a key."""
        return f"{self.path}:{self.lines.get(key, 1)}"

    def asks(self, name: str, *verbs: str) -> bool:
        """Say whether a statement of these verbs, by default of any, has this parameter, whatever its unit."""
        wanted = {name, f"{name}_seconds"}
        return any(
            wanted & set(statement.names)
            for verb, statements in self.verbs.items()
            if not verbs or verb in verbs
            for statement in statements
        )

    @property
    def fixed(self) -> frozenset[str]:
        """The settings that no statement asks for: they are as the file says."""
        names = {name for name in ("lease", "max_attempts", "retention") if not self.asks(name)}
        if "lease" in names:  # no worker may run for longer than its lease, which is as the file says
            names.add("job_timeout")
            if self.settings.heartbeat_interval:  # nor go on without the heartbeats that keep it
                names.add("heartbeat_interval")
        if not self.asks("limit", "claim"):
            names.add("batch_size")
        if not self.asks("delay", "fail"):
            waits = ("retry_delay", "retry_delay_max", "retry_backoff")
            names |= {name for name in waits if not self.asks(name, "enqueue", "fail")}
        if not self.asks("stuck_timeout"):
            names.add("stuck_timeout")
        names |= {"concurrency", "tool_concurrency", "rate_limit", "rate_window"}
        return frozenset(names - (set() if "purge" in self.verbs else {"retention"}))

    def effective(self, settings: Settings) -> Settings:
        """Return the settings as this queue can keep them."""
        return settings.changed(**{name: getattr(self.settings, name) for name in self.fixed})

    def _how_to_change(self, name: str) -> str:
        parameter = _PARAMETERS.get(name, name)
        return f"{name} is written into {self.path}: change it there, or take :{parameter} in the statements"

    @property
    def zones(self) -> tuple[str, ...]:
        """The time zones that its SQL names, such as 'Europe/Berlin'."""
        statements = (each.source for verb in self.verbs.values() for each in verb)
        texts = [each.text for each in (*self.schema, *statements)]
        return tuple(dict.fromkeys(name for text in texts for name in _ZONE.findall(text)))

    @property
    def columns(self) -> frozenset[str]:
        """The columns that `jobs` shows, as far as its text tells."""
        return frozenset(output_names(self.jobs.source))

    def capabilities(self, columns: frozenset[str]) -> Capabilities:
        """Return what it can do, where `jobs` shows these columns."""
        priorities = self.asks("priority", "enqueue") and "priority" in columns
        unique = self.asks("unique_key", "enqueue") and "unique_key" in columns
        return Capabilities(
            **{verb: verb in self.verbs for verb in ("heartbeat", "release", "cancel", "retry")},
            priorities=priorities,
            big_priorities=priorities and self._counts_to_64_bits("priority"),
            unique=unique,
            blank_keys=unique,
            serial_keys=self.asks("serial_key", "enqueue") and "serial_key" in columns,
            **self.settings.limits(),
            flows=self.asks("depends_on", "enqueue") and "depends_on" in columns,
            groups=self.asks("group_size", "enqueue") and {"group", "callback_of"} <= columns,
            start_after=self.asks("start_after", "enqueue") and "start_after" in columns,
            maintenance="purge" in self.verbs,
            virtual_time=True,
            fencing=self.fencing,
            inputs=self.asks("input", "enqueue") and "input" in columns,
            results={"output", "error"} <= columns,
            takes_back_in_claim=self.takes_back != "by expire",
            final_errors=self.final_errors,
            own_attempts=self.asks("max_attempts", "enqueue") and "max_attempts" in columns,
            remote=Design.CALLED_IN_PROCESS not in self.designs,
        )

    def contract(self, columns: frozenset[str]) -> Contract:
        """Return where it says that it differs."""
        documented = dict(self.without)
        if not self.final_errors:
            documented.setdefault("final_error_retried", f"{self.place('fail')} asks for no :final")
        for column, anomalies in _UNSEEN.items():
            if column not in columns:
                for anomaly in anomalies:
                    documented.setdefault(anomaly, f"{self.place('jobs')} shows no column {column}")
        return Contract(
            documented=documented,
            differences=self._differences(),
            intended=self.without,
            unseen=self._unseen(),
            file=self.path,
            notes=tuple(self._notes()),
            designs=self.designs,
            effective=self.effective,
            fixed=self.fixed,
            longest=self.longest,
            granularity=1,
            fixed_where={name: self._how_to_change(name) for name in self.fixed},
            oldest_first=self._oldest_first(),
        )

    def _unseen(self) -> dict[str, str]:
        """Say what no run shows where the file leaves open when a job is stopped: none outlasts its lease then."""
        if (
            "lease" not in self.given
            or {"job_timeout", "heartbeat_interval"} & self.given
            or self.takes_back == "never"
        ):
            return {}
        place = self.place("settings.lease")
        why = "no `job_timeout` is given, so each job is stopped before; where nothing stops yours: `job_timeout: none`"
        return {"jobs that run for longer than their lease": f"{place}: {why}"}

    def _notes(self) -> Iterator[str]:
        """Say what it describes otherwise than the user's code may do it."""
        if self.draft:
            yield f"{self.path} is a draft: its statements are not those of your code. Put yours in their place."
        for verb in ("claim", "heartbeat"):
            for statement in self.verbs.get(verb, ()):
                said = words(statement.source.text[statement.offsets[0][1] :].partition(";")[0])
                if said[:1] == ["insert"] and "conflict" in said and "worker" in statement.names:
                    yield (
                        f"{statement.source.place(statement.offsets[0][1])}: {verb} keeps a row for :worker, which a "
                        "restarted worker finds again. If your code registers anew at each start, write :process."
                    )

    def _differences(self) -> dict[str, str]:
        """Return, by case, what a file need not do as the cases expect: none of them excuses an anomaly."""
        purge = f"{self.place('purge')}: there is one table, and taking back is no business of a purge"
        differences = dict.fromkeys(_RESCUES, purge) if "purge" in self.verbs else {}
        if self.takes_back == "inside claim":
            place = self.place("takes_back")
            differences["crashes/before_completing"] = f"{place}: the next worker to claim may be the one that died"
            straight = f"{place}: from one claim to the next, and never back to PENDING"
            differences |= dict.fromkeys(_BETWEEN_CLAIMS, straight)
        return differences

    def _oldest_first(self) -> bool:
        """Say whether a claim orders by when a job came: by the column that `jobs` shows as that, or by the id.

        One that orders by when a job may be claimed first lets a retry wait behind what came later.
        """
        came, due = self._columns_of("created_at") | {"id"}, self._columns_of("start_after")
        said = words(self.verbs["claim"][0].source.text)
        orders = [said[at + 2 :] for at in range(len(said) - 1) if said[at : at + 2] == ["order", "by"]]
        columns = [takewhile(lambda word: word not in _AFTER_ORDER, order) for order in orders]
        return any(next((word in came for word in order if word in came | due), False) for order in columns)

    def _counts_to_64_bits(self, name: str) -> bool:
        """Say whether the schema gives a column of `jobs`, or one of its name, a type that holds 64 bits."""
        columns = "|".join(map(re.escape, self._columns_of(name)))
        wide = re.compile(rf'\b({columns})"?\s+(bigint|int8|numeric)\b', re.IGNORECASE)
        return any(wide.search(each.text) for each in self.schema)

    def _columns_of(self, name: str) -> frozenset[str]:
        """Return what a column of `jobs` is called, there and in the table."""
        shown = re.search(rf"([\w\"]+)\s+as\s+{name}\b", self.jobs.source.text, re.IGNORECASE)
        return frozenset({name, *([shown[1].strip('"').lower()] if shown else [])})


_AFTER_ORDER: Final = frozenset(
    {"limit", "offset", "fetch", "for", "returning", "where", "and", "or", "set", "union", "from"}
)
"""Words that end an ORDER BY, or stand behind the parenthesis that does."""


_ZONE: Final = re.compile(r"'([A-Z][A-Za-z_]+/[A-Z][A-Za-z_/]+)'")
_OF_A_TYPE: Final = frozenset({".", ")", "[", "]", "precision", "varying", "with", "without", "time", "zone"})
"""What the name of a type goes on with."""


def output_names(source: SqlSource) -> list[str]:
    """Return what a SELECT calls its columns: of each item its last word, or that before a cast.

    Raises QueueFileError for `*`.
    """
    depth, names, last = 0, list[str](), ""
    begun = cast = type_follows = False
    for kind, piece, at, _ in code(source.text):
        depth += (piece == "(") - (piece == ")")
        word = piece.lower()
        if depth:
            continue
        if not begun:
            begun = word == "select"
            continue
        if word in ("from", ";", "union", "where", "order") and (word, last.lower()) != ("from", "distinct"):
            break
        cast = kind == "cast" or (cast and (type_follows or word in _OF_A_TYPE or word.isdigit()))
        if cast:
            type_follows = kind == "cast" or word == "."
            continue
        if piece == ",":
            names.append(last)
        elif piece == "*" and last in ("", "."):
            raise source.error("it shows `*`", at=at, hint="Name the columns: SELECT id, status, attempts, ...")
        last = "" if piece == "," else piece.strip('"') if kind in ("word", "quoted") else piece
    return [*names, last]


_UNSEEN: Final[Mapping[str, tuple[str, ...]]] = {
    "output": ("wrong_result", "success_without_run"),
    "error": ("error_lost",),
    "started_at": ("completed_before_started",),
    "completed_at": ("completed_before_started", "deleted_early"),
    "start_after": ("backoff_out_of_range",),
}
"""By column, what cannot be told where `jobs` does not show it."""


# reading it -----------------------------------------------------------------------------------------------------------


def read_queue_file(path: str) -> QueueFile:
    """Read a queue file.

    Raises QueueFileError or ScenarioError with `file:line` for what is wrong, and where a file
    cannot be read.
    """
    raw = _read(Path(path), called=path)
    document = read_document(raw, path)
    if not isinstance(document.data, dict):
        raise _wrong(path, 1, f"a queue file is a mapping that starts with `format: 1`, not {described(document.data)}")
    _refuse_unknown(document, path)
    try:
        part = QueueFilePart.model_validate(document.data)
    except ValidationError as error:
        told = [f"{path}:{each.line}: {each.message}" for each in sorted(problems_of(error, document, QueueFilePart))]
        raise QueueFileError("\n".join(told), hint=_HINT) from None
    return _Reading(part, document, path, raw.decode("utf-8-sig").splitlines()).file()


LEASES: Final = 3
"""How many leases a job may run that keeps its own by heartbeats, if the file does not say."""
_HINT: Final = "docs/queue_files.md shows a whole file; `job-harness schema queue` is for your editor."


def _wrong(path: str, line: int, message: str, hint: str = _HINT) -> QueueFileError:
    return QueueFileError(f"{path}:{line}: {message}", hint=hint)


def _read(path: Path, *, called: str) -> bytes:
    try:
        if not path.is_file():
            near = did_you_mean(
                path.name, [file.name for file in path.parent.glob("*")] if path.parent.is_dir() else []
            )
            raise QueueFileError(
                f"{called}: there is no such file{near}",
                hint="`job-harness init --queue SCHEMA` drafts a queue file; docs/system_files.md shows a system file.",
            )
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError as error:
        raise QueueFileError(f"{called}: cannot be read: {error.strerror}", hint="Check its permissions.") from None


def _refuse_unknown(document: YamlDocument, path: str) -> None:
    """A file of another kind has other keys: naming each of those would mislead."""
    known = [field.alias or name for name, field in QueueFilePart.model_fields.items()]
    if "jobs" in document.data and isinstance(document.data["jobs"], dict):
        raise _wrong(path, document.line(("jobs",)), "this is a scenario, not a queue", "Use job-harness run.")
    if not {"queue", "enqueue", "claim"} & set(document.data):
        raise _wrong(path, 1, "this is no queue file: it has no `queue`, no `enqueue` and no `claim`")
    for key in document.data:
        if key not in known:
            message = f"unknown key {key!r}{did_you_mean(str(key), known)}. Known keys: {', '.join(known)}"
            raise _wrong(path, document.line((key,)), message)


class _Reading:
    """One file on its way to a `QueueFile`."""

    def __init__(self, part: QueueFilePart, document: YamlDocument, path: str, text: list[str]) -> None:
        self._part = part
        self._document = document
        self._path = path
        self._text = text

    def file(self) -> QueueFile:
        """Return what the file says. Raises QueueFileError where that makes no sense."""
        self._refuse_open_statuses()
        part = self._part
        verbs = {verb: self._statements(verb) for verb in VERBS if getattr(part, verb) is not None}
        jobs = self._statements("jobs")
        if len(jobs) != 1:
            raise jobs[1].source.error("there is one SELECT here, and no second statement", at=jobs[1].offsets[0][1])
        file = QueueFile(
            path=self._path,
            queue=part.queue,
            schema=self._schema(),
            connection=part.connection,
            tables=frozenset(part.tables or ()),
            ids=part.ids,
            queues=tuple(part.queues or ()),
            verbs=verbs,
            jobs=jobs[0],
            status={name: Status(meaning) for name, meaning in part.status.items()} or MEANINGS,
            settings=self._settings(),
            given=frozenset(part.settings.given()),
            longest=part.settings.longest,
            takes_back=self._takes_back(),
            final_errors=any("final" in statement.names for statement in verbs["fail"]),
            fencing=part.fencing,
            designs=frozenset(part.design),
            without=part.without,
            no_row=tuple(self._no_row(name, each) for name, each in part.no_row.items()),
            draft=part.draft,
            lines={
                **{str(key): self._line(str(key)) for key in self._document.data},
                **{f"settings.{name}": self._line("settings", name) for name in part.settings.given()},
            },
        )
        self._refuse_anomalies()
        self._refuse_queues(file)
        return file if part.final_errors is None else replace(file, final_errors=part.final_errors)

    def _refuse_open_statuses(self) -> None:
        """A draft that is not completed would claim and settle by statuses that the table never has."""
        marks = re.compile(rf"\b{OPEN_STATUS}({'|'.join(MEANINGS)})\b")
        for number, line in enumerate(self._text, 1):
            if (found := marks.search(line.partition("#")[0])) is not None:
                raise _wrong(
                    self._path,
                    number,
                    f"{found[0]} is what the draft writes for a status that it does not know",
                    f"Replace it, everywhere in this file, by that one of your statuses that means {found[1]}.",
                )

    def _line(self, *path: str) -> int:
        return self._document.line(path)

    def _error(self, key: str, message: str, hint: str = _HINT) -> QueueFileError:
        return _wrong(self._path, self._line(key), f"{key}: {message}", hint)

    def _no_row(self, name: str, part: NoRowPart) -> NoRowPromise:
        if words(part.sql)[:1] not in (["select"], ["with"]):
            raise self._error("no_row", f"{name}: {part.sql!r:.80} is no SELECT")
        return NoRowPromise(name, part.sql, part.when == "always", f"{self._path}:{self._line('no_row', name)}")

    def _statements(self, verb: str) -> tuple[Statement, ...]:
        clock = set() if verb == "jobs" else {"now"}  # what a job is does not depend on who looks
        return read_statements(self._source(verb, getattr(self._part, verb)), OF_VERB[verb] | SETTINGS | clock)

    def _source(self, key: str, text: str) -> SqlSource:
        """Find the lines of a value: below its key for a block, on that of the key for anything else."""
        line = self._line(key)
        first = text.split("\n", 1)[0].strip()
        below = self._text[line].strip() if line < len(self._text) else ""
        on_key = first and first in self._text[line - 1]
        begin = line if on_key or below != first else line + 1
        if not on_key and not first:  # a block that begins with an empty line
            begin = line + 1
        lines = tuple(min(begin + number, len(self._text)) for number in range(text.count("\n") + 1))
        return SqlSource(text, self._path, lines, key)

    def _schema(self) -> tuple[SqlSource, ...]:
        given = self._part.schema_
        if (given is None) == (self._part.connection is None):
            key = "schema" if given is not None else "queue"
            told = "both name the tables" if given is not None else "neither of them names the tables"
            raise self._error(key, f"`schema` and `connection`: {told}", "Give one: a file of SQL, or a database.")
        if given is None:
            return ()
        if isinstance(given, str) and (";" in given or "\n" in given.strip()):
            return (self._source("schema", given),)
        folder = Path(self._path).parent
        return tuple(self._file(folder / name) for name in ([given] if isinstance(given, str) else given))

    def _file(self, path: Path) -> SqlSource:
        try:
            text = _read(path, called=str(path)).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise self._error("schema", f"{path} is not UTF-8") from None
        except QueueFileError as error:
            raise self._error("schema", error.message, "The path is relative to the folder of this file.") from None
        return SqlSource.whole(up_half(text), str(path), "schema")

    def _settings(self) -> Settings:
        """A lease without heartbeats leaves the processor nine tenths of it; with them, it need not run for many."""
        given = self._part.settings.given()
        if "lease" in given and "job_timeout" not in given:
            longest = min(Settings().job_timeout, LEASES * given["lease"])
            given["job_timeout"] = longest if given.get("heartbeat_interval") else given["lease"] * 9 // 10
        settings = Settings().changed(**given)
        if "stuck_timeout" not in given:  # Nothing goes by it, and it must not be shorter.
            settings = settings.changed(stuck_timeout=max(settings.stuck_timeout, settings.lease))
        if "retry_delay" in given and "retry_delay_max" not in given:
            settings = settings.changed(retry_delay_max=max(settings.retry_delay_max, *self._part.settings.retry_delay))
        return settings

    def _takes_back(self) -> str:
        part = self._part
        if part.expire is not None:
            if part.takes_back == "inside claim" and Design.BURIES_BY_SWEEP in part.design:
                return part.takes_back
            if part.takes_back not in (None, "by expire"):
                raise self._error(
                    "takes_back",
                    f"{part.takes_back!r}, and there is an `expire`",
                    "Leave one of them out. Where claim takes over what is overdue and `expire` only fails what has no "
                    "attempt left, add `design: [buries by sweep]`.",
                )
            return "by expire"
        if part.takes_back in (None, "by expire"):
            raise self._error(
                "claim",
                "nothing here takes back the job of a worker that died",
                "Write `expire`, or `takes_back: inside claim` where claim takes what is overdue, or "
                "`takes_back: never`.",
            )
        return part.takes_back

    def _refuse_queues(self, file: QueueFile) -> None:
        """Each queue is sent to and taken from by its name, or there is none to name."""
        if twice := next((name for name in file.queues if file.queues.count(name) > 1), None):
            raise self._error("queues", f"{twice!r} is there twice", "Name each queue once.")
        for verb in ("enqueue", "claim"):
            asked = file.asks("queue", verb)
            if asked and not file.queues:
                hint = "Name the queues that the table holds: queues: [default, mail]."
                raise self._error(verb, "it takes :queue, and the file names no `queues`", hint)
            if file.queues and not asked:
                hint = "Take it there as your code does, or leave `queues` out."
                raise self._error("queues", f"{verb} does not take :queue, so nothing tells the queues apart", hint)

    def _refuse_anomalies(self) -> None:
        for name in self._part.without:
            if name not in ANOMALIES:
                line = self._line("without", name)
                near = did_you_mean(name, ANOMALIES)
                raise _wrong(self._path, line, f"no such anomaly: {name!r}{near}", "docs/invariants.md lists them.")
