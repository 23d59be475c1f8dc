"""The format of scenario files, version 1: how single values are written, which keys there are, and the JSON schema.

Hides pydantic. Durations, spans and gaps are text with a unit; a bare number is refused with the
unit that is missing.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, WithJsonSchema, model_validator

from job_harness.core.calendars import calendar_problem, zone_problem
from job_harness.core.invariants import ANOMALIES
from job_harness.core.model import Duration, parse_duration
from job_harness.core.port import Missed
from job_harness.core.scenario.job_plan import OPERATED, Ending, OperatorAct, Payload, Span, parse_act, parse_span
from job_harness.core.scenario.scenario import Step, parse_step
from job_harness.errors import did_you_mean

# single values --------------------------------------------------------------------------------------------------------


DURATION = r"^((\d+(\.\d+)?)(us|ms|s|m|h|d))+$"
SPAN = r"^(((\d+(\.\d+)?)(us|ms|s|m|h|d))+|\s*\d+(\.\d+)?\s*x?\s*[a-z_]+\s*)$"
GAP = r"^\S+\.\.\S+$"
NAME = r"^[A-Za-z_][A-Za-z0-9_-]*$"
DURATION_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": DURATION,
    "description": "a number with a unit: 250ms, 30s, 10m, 1h30m, 7d",
}
SPAN_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": SPAN,
    "description": "a duration (30s), or a multiple of a setting (0.95 lease)",
}


def several(one: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of one value, or a list of such values."""
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": 1000}]}


def text_of(value: Any, what: str) -> str:
    """Return the text that this value is.

    Raises ValueError saying what was expected where it is none.
    """
    if not isinstance(value, str):
        hint = f" (put it in quotes: {_quoted(value)})" if type(value) in (int, float, bool) and what == "text" else ""
        raise ValueError(f"expected {what}, got {described(value)}{hint}")  # noqa: TRY004 - pydantic collects ValueError
    return value


def _quoted(value: object) -> str:
    return repr(str(value).lower() if isinstance(value, bool) else str(value))


def described(value: Any) -> str:
    """Name a value and its kind."""
    match value:
        case None:
            return "null"
        case bool():
            return f"{str(value).lower()} (true or false)"
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return repr(value) if len(repr(value)) <= 60 else f"{value[:50]!r}..."


def read_duration(value: Any) -> Duration:
    """Read a duration as a scenario writes it.

    Raises ValueError that says what would have been accepted; a bare number names the unit that is
    missing.
    """
    if type(value) in (int, float):
        raise ValueError(f"the number {value} has no unit: write {value}s, {value}m or {value}ms")
    return parse_duration(text_of(value, "a duration such as 30s or 10m"))


def _positive(value: Any) -> Duration:
    duration = read_duration(value)
    if duration <= 0:
        raise ValueError(f"{value!r} is not accepted: it must be longer than 0")
    return duration


def _heartbeat(value: Any) -> Duration:
    return 0 if value is None or (type(value) is int and value == 0) else read_duration(value)


def _span(value: Any) -> Span:
    if type(value) in (int, float):
        raise ValueError(f"the number {value} has no unit: write {value}s, or a multiple of a setting: {value} lease")
    return parse_span(text_of(value, "a duration (30s) or a multiple of a setting (0.95 lease)"))


def _gap(value: Any) -> tuple[Duration, Duration]:
    text = text_of(value, "a gap such as 60s..122s")
    low, dots, high = text.partition("..")
    if not dots:
        raise ValueError(f"{text!r} is not a gap: write the shortest and the longest wait as 60s..122s")
    shortest, longest = parse_duration(low.strip()), parse_duration(high.strip())
    if shortest > longest:
        raise ValueError(f"{text!r} is an empty gap: the shortest wait comes first")
    return shortest, longest


def length_or_gap(value: Any, *, positive: bool = False) -> tuple[Duration, Duration]:
    """Read a duration, or the shortest and the longest of one that chance decides."""
    shortest, longest = _gap(value) if isinstance(value, str) and ".." in value else (read_duration(value),) * 2
    if positive and shortest <= 0:
        raise ValueError(f"{value!r} is not accepted: it must be longer than 0")
    return shortest, longest


def _read_list(value: Any, one: Callable[[Any], Any]) -> tuple[Any, ...]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError("the list is empty; name at least one, or leave the key out")
    if len(values) > 1000:
        raise ValueError(f"a list of {len(values)}; at most 1000 are accepted")
    return tuple(one(item) for item in values)


E = TypeVar("E", bound=StrEnum)


def _member_of(kind: type[E], what: str, *, article: str) -> Callable[[Any], E]:
    """Return what reads a member of an enumeration."""

    def read(value: Any) -> E:
        """Read one. Raises ValueError that names all there are."""
        known = [str(member) for member in kind]
        text = text_of(value, article)
        if text not in known:
            raise ValueError(f"no such {what}: {text!r}{did_you_mean(text, known)}. Available: {', '.join(known)}")
        return kind(text)

    return read


_ending = _member_of(Ending, "outcome", article="an outcome")


def _without_problem(find: Callable[[str], str | None], what: str) -> Callable[[Any], str]:
    """Return what reads a text in which a check finds no problem."""

    def read(value: Any) -> str:
        """Read one. Raises ValueError with the problem."""
        text = text_of(value, what)
        if problem := find(text):
            raise ValueError(problem)
        return text

    return read


def _act(value: Any) -> OperatorAct:
    return parse_act(text_of(value, "an act such as `retry after 30m`"))


def _step(value: Any) -> Step:
    return parse_step(text_of(value, "a step such as `w1 claims a`"))


def _text(value: Any) -> str:
    return text_of(value, "text")


Positive: TypeAlias = Annotated[Duration, BeforeValidator(_positive), WithJsonSchema(DURATION_SCHEMA)]
Length: TypeAlias = Annotated[Duration, BeforeValidator(read_duration), WithJsonSchema(DURATION_SCHEMA)]
Heartbeat: TypeAlias = Annotated[
    Duration,
    BeforeValidator(_heartbeat),
    WithJsonSchema({"anyOf": [DURATION_SCHEMA, {"type": "null"}, {"const": 0}]}),
]
Gap: TypeAlias = Annotated[
    tuple[Duration, Duration], BeforeValidator(_gap), WithJsonSchema({"type": "string", "pattern": GAP})
]
Spans: TypeAlias = Annotated[
    tuple[Span, ...],
    BeforeValidator(lambda value: _read_list(value, _span)),
    WithJsonSchema(several(SPAN_SCHEMA)),
]
Endings: TypeAlias = Annotated[
    tuple[Ending, ...],
    BeforeValidator(lambda value: _read_list(value, _ending)),
    WithJsonSchema(several({"enum": [str(ending) for ending in Ending]})),
]
PayloadName: TypeAlias = Annotated[
    Payload,
    BeforeValidator(_member_of(Payload, "payload", article="a payload")),
    WithJsonSchema({"enum": [str(payload) for payload in Payload]}),
]
CronText: TypeAlias = Annotated[
    str,
    BeforeValidator(_without_problem(calendar_problem, "a cron text such as `30 2 * * *`")),
    WithJsonSchema({"type": "string"}),
]
ZoneName: TypeAlias = Annotated[
    str,
    BeforeValidator(_without_problem(zone_problem, "a time zone such as Europe/Berlin")),
    WithJsonSchema({"type": "string"}),
]
MissedPolicy: TypeAlias = Annotated[
    Missed,
    BeforeValidator(_member_of(Missed, "policy", article="a policy for missed slots")),
    WithJsonSchema({"enum": [str(policy) for policy in Missed]}),
]
Acts: TypeAlias = Annotated[
    tuple[OperatorAct, ...],
    BeforeValidator(lambda value: _read_list(value, _act)),
    WithJsonSchema(several({"type": "string", "pattern": f"^({'|'.join(OPERATED)}) after "})),
]
StepLine: TypeAlias = Annotated[Step, BeforeValidator(_step), WithJsonSchema({"type": "string"})]
Text: TypeAlias = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": "string"})]
Name: TypeAlias = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": "string", "pattern": NAME})]
Names: TypeAlias = Annotated[
    tuple[Name, ...],
    BeforeValidator(lambda value: _read_list(value, _text)),
    WithJsonSchema(several({"type": "string", "pattern": NAME})),
]


# the keys -------------------------------------------------------------------------------------------------------------


MOST_WORKERS = 16
MOST_JOBS = 1_000
MOST_SENT = 100_000
MOST_STEPS = 10_000
SMALLEST, LARGEST = -(2**63), 2**63 - 1

Status = Literal["PENDING", "PROCESSING", "COMPLETED", "FAILED", "CANCELLED"]
StatusOrGone = Literal["PENDING", "PROCESSING", "COMPLETED", "FAILED", "CANCELLED", "gone"]
Target = Annotated[
    Text,
    Field(pattern=r"^([^:\s]+:[A-Za-z_][\w.]*(@[\w.-]+)*(\+[\w-]+)*|[^:\s]+\.ya?ml(-gated)?)$", max_length=500),
]
Count = Annotated[int, Field(ge=0, le=1_000_000)]


def _anomalies(schema: dict[str, Any]) -> None:
    schema["enum"] = sorted(ANOMALIES)


class FilePart(BaseModel):
    """Unknown keys are errors: an ignored key is a check that cannot fail. So are values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)
    """Only the part that is asked to validate is built: of ten, the whole scenario, and where no file is read, none."""


class NoNulls(FilePart):
    """A part in which a key without a value would ask for nothing."""

    nullable: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _refuse_nulls(cls, value: Any) -> Any:
        if isinstance(value, dict):
            empty = [key for key, item in value.items() if item is None and key not in cls.nullable]
            if empty:
                raise ValueError(f"{', '.join(empty)} has no value; give one, or leave the key out")
        return value


class NoRowPart(NoNulls):
    """A SELECT that must return no row."""

    sql: Text = Field(min_length=1)
    when: Literal["always", "at rest"] = "at rest"
    """After every statement that changed something, or once everything has come to rest."""


class SettingsPart(NoNulls):
    """Settings that differ from the defaults."""

    nullable = frozenset({"heartbeat_interval"})

    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 3
    """Deliveries in total."""
    job_timeout: Positive = 0
    """A processor is stopped after this."""
    lease: Positive = 0
    """The queue takes an active job back after this without a heartbeat."""
    stuck_timeout: Positive = 0
    """Maintenance takes a PROCESSING job back after this."""
    retry_delay: Length = 0
    """The wait after a failed attempt, before backoff."""
    retry_backoff: bool = True
    """Whether the wait doubles with each attempt, up to `retry_delay_max`."""
    retry_delay_max: Length = 0
    """The longest wait that backoff may reach."""
    poll_interval: Positive = 0
    """How often an idle worker looks for jobs."""
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Jobs taken with one claim and run one after the other."""
    concurrency: Annotated[int, Field(ge=0, le=10_000)] = 0
    """At most this many jobs may be PROCESSING at once; 0: no limit."""
    tool_concurrency: Annotated[int, Field(ge=0, le=10_000)] = 0
    """At most this many jobs of one tool may be PROCESSING at once; 0: no limit."""
    rate_limit: Annotated[int, Field(ge=0, le=10_000)] = 0
    """At most this many jobs of one tool may be claimed within any `rate_window`; 0: no limit."""
    rate_window: Positive = 0
    """How far back `rate_limit` counts."""
    heartbeat_interval: Heartbeat = 0
    """A worker extends its leases this often; null or 0: never."""
    cron_period: Positive = 0
    """How often maintenance runs."""
    expire_interval: Positive = 0
    """How often the queue looks for leases that ran out."""
    tick_interval: Positive = 0
    """How often each scheduler looks for slots that have begun."""
    retention: Positive = 0
    """Terminal jobs are kept this long."""
    max_skew: Length = 0
    """Clocks may differ by this much."""
    workers_enabled: bool = True
    """Whether workers start at all."""

    def given(self) -> dict[str, Any]:
        """Return the settings that were written down, durations in microseconds."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


class JobPart(NoNulls):
    """One job, or `count` jobs sent `every` so often, and how each attempt goes."""

    nullable = frozenset({"input"})

    tool: Annotated[Text, Field(min_length=1, max_length=200)] = "tool"
    input: JsonValue = None
    outcomes: Endings = ()
    """How each attempt ends; the last one repeats."""
    takes: Spans = ()
    """How long each attempt takes; the last one repeats."""
    at: Length = 0
    """When it is sent, from the start of the run."""
    start_after: Length | None = None
    """How long after it is sent it may first be claimed."""
    priority: Annotated[int, Field(ge=SMALLEST, le=LARGEST)] = 0
    max_attempts: Annotated[int, Field(ge=1, le=1000)] | None = None
    unique_key: Annotated[Text, Field(max_length=1000)] | None = None
    serial_key: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    """At most one job with this key is PROCESSING."""
    dead_letter: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    """The tool that gets its input as a new job once this one is FAILED."""
    payload: PayloadName | None = None
    """A hostile input instead of `input`."""
    transaction: Literal["commit", "rollback"] | None = None
    """It is sent inside a transaction that ends like this: `commit` or `rollback`."""
    open_for: Length = 0
    """How long that transaction stays open after the job was sent."""
    cancel_after: Length | None = None
    """How long after it is sent it is cancelled."""
    retry_after: Length | None = None
    """How long after `cancel_after`, or after it was sent, an operator retries it."""
    then: Acts = ()
    """What is done next, each so long after the one before: `[retry after 30m, send after 1h]` (under the same id)."""
    every: Positive | None = None
    count: Annotated[int, Field(ge=1, le=MOST_SENT)] = 1
    scheduled: bool = False
    """With `every` and `count`: the queue creates these jobs by a schedule, one for each of `count` slots."""
    cron: CronText | None = None
    """Instead of `every`: five fields, six (seconds first), or `@daily`; a run begins on 2030-01-01."""
    zone: ZoneName = "UTC"
    """The time zone of `cron`."""
    missed: MissedPolicy = Missed.EACH
    """Slots of `cron` that no scheduler looked at in time get a job `each`, or only the `latest` does."""
    lease: Positive | None = None
    """Its own lease, instead of the setting."""
    timeout: Positive | None = None
    """How long its processor may run, instead of `job_timeout`."""
    retry_delay: Length | None = None
    """Its own wait before the first retry, instead of the setting."""
    unique_for: Positive | None = None
    """Its unique key is held for at least this long, even if the job ends earlier."""
    after: Name | None = None
    """It is sent once this other job has ended."""
    depends_on: Names = ()
    """Jobs that must be COMPLETED before it begins. If one of them fails for good or is cancelled, so is it."""
    parent: Name | None = None
    """A job that has not begun yet, and waits for this one too. This one is sent after it."""
    group: Annotated[Text, Field(min_length=1, max_length=40)] | None = None
    """After the last job of its group has ended, the queue makes one more job: the group's callback."""
    children: Annotated[int, Field(ge=0, le=1000)] | None = None
    """How many jobs a system splits it into, where `send` asks for `${children}`."""
    held_back: bool = False
    """Sent only by a step `enqueue NAME`."""


class PausePart(NoNulls):
    """The jobs of a tool are held back for a while."""

    tool: Annotated[Text, Field(min_length=1, max_length=200)]
    at: Length = 0
    """When, from the start of the run."""
    lasts: Positive


class AuditPart(NoNulls):
    """An audit looks on while the jobs run, as `reproduce` wrote it."""

    anomaly: Annotated[Text, Field(json_schema_extra=_anomalies)]
    """What it looks for: an anomaly of rows as they stand."""
    stuck_after: Positive
    """For how long a job may be late, or its two rows may differ."""
    job: Name | None = None
    """The only job that it looks at; without it, all of them."""


class DeviationPart(FilePart):
    """A deviation from the usual order of events, as `explore` wrote it."""

    at: Annotated[Text, Field(min_length=1, max_length=500)]
    """The place: an actor and its point, `w1 complete a`; or `time`."""
    nth: Annotated[int, Field(ge=1)] = 1
    """Which occurrence of it, from 1."""
    do: Annotated[Text, Field(min_length=1, max_length=500)]
    """What happens instead: `crash`, `pause a lease + 1s`, `w2 first`."""


class ExpectPart(NoNulls):
    """The expected result of one job."""

    status: StatusOrGone | None = None
    attempts: Count | None = None
    runs: Count | None = None
    """How often a processor started on it."""
    path: list[Status] | None = None
    """The statuses it goes through."""
    gaps: list[Gap] | None = None
    """The waits between one attempt's end and the next one's start."""
    output: JsonValue = None
    error: Annotated[Text, Field(min_length=1)] | None = None
    """A part of the error text."""
    effects: dict[Text, Count] | None = None
    """How often its real processor declared each side effect, over all attempts; those not listed must not occur."""


class ControlPart(NoNulls):
    """A wrong queue, a wrong setting or another engine on which the scenario must find a named anomaly."""

    queue: Name | None = None
    engine: Text | None = None
    """An engine, with its version if it has one; so a scenario keeps a finding on another project's queue."""
    application: Target | None = None
    """Another application, or the same one with a safeguard more or less."""
    settings: SettingsPart | None = None
    finds: Annotated[Text, Field(json_schema_extra=_anomalies)]


class ProcessorPart(NoNulls):
    """A real processor, and what stands in for the world around it."""

    run: Text
    """`module:name` or `path.ts#name`; found beside the scenario file, or in `root`."""
    root: Text | Annotated[list[Text], Field(min_length=1, max_length=100)] = ""
    """The folder to look for it, relative to the scenario file; in a list, more folders for its imports."""
    globals: dict[str, Text] = Field(default_factory=dict)
    """For TypeScript: JavaScript expressions by the name of the global."""
    stubs: dict[str, Text] = Field(default_factory=dict)
    """For TypeScript: files that replace modules, by the specifier of the module."""
    fetch: dict[Text, JsonValue] = Field(default_factory=dict)
    """For TypeScript: what `fetch` returns, by URL or by method and URL: a status, a text, `{json: ...}` or more."""


class ScenarioPart(NoNulls):
    """A scenario: what runs, what goes wrong, and what the result must be."""

    format: Literal[1]
    title: Annotated[Text, Field(max_length=500)] = ""
    why: Annotated[Text, Field(max_length=5000)] = ""
    settings: SettingsPart = SettingsPart()
    env: dict[str, Text | None] = Field(default_factory=dict)
    """Environment variables: text, or null for unset."""
    processors: dict[str, Text | ProcessorPart] = Field(default_factory=dict)
    """Real processors by tool: `module:name` or `path.ts#name`, found beside the scenario file."""
    workers: Annotated[list[Name], Field(min_length=1, max_length=MOST_WORKERS)] = Field(default_factory=lambda: ["w1"])
    serves: dict[str, Annotated[list[Text], Field(min_length=1, max_length=100)]] = Field(default_factory=dict)
    """The tools that each worker serves; a worker that is not named serves all."""
    pauses: Annotated[list[PausePart], Field(max_length=100)] = Field(default_factory=list)
    """Tools whose jobs an operator holds back."""
    presets: dict[str, Annotated[int, Field(ge=0, le=2**63 - 1)]] = Field(default_factory=dict)
    """How the queue starts: `token`, the number its tokens continue from; `put_off`, older jobs that are not due."""
    jobs: Annotated[dict[str, JobPart], Field(min_length=1, max_length=MOST_JOBS)]
    steps: Annotated[list[StepLine], Field(max_length=MOST_STEPS)] = Field(default_factory=list)
    tape: Annotated[list[DeviationPart], Field(max_length=MOST_STEPS)] = Field(default_factory=list)
    early_rounds: bool = False
    """Expiry and maintenance run when something is due; with `true` they also run half-way to that time."""
    restart_after: Length | None = None
    """A process that the tape crashed restarts after this."""
    queue: Name | None = None
    """A wrong queue to run on."""
    application: Target | None = None
    """An application of your own to run on instead of an engine: `path.py:factory` or `module:factory`."""
    audit: AuditPart | None = None
    """An anomaly that an audit of production found; the run is judged for it too."""
    expect: dict[str, ExpectPart] = Field(default_factory=dict)
    controls: Annotated[list[ControlPart], Field(max_length=100)] = Field(default_factory=list)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of scenario files."""
    schema = ScenarioPart.model_json_schema(mode="validation")
    _describe(schema)
    _tidy(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "job-harness scenario",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def schema_text(schema: Mapping[str, Any]) -> str:
    """Write a JSON schema as the command prints it, and as the shipped file has it."""
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def sentences() -> dict[str, dict[str, str]]:
    """Return what each key means, by the class of its part: the sentence that stands below it in this file.

    pydantic's `use_attribute_docstrings` does the same, and parses the file once for each class at
    import: a quarter of the start of every command, for texts that only the schema and the pages
    need.
    """
    found: dict[str, dict[str, str]] = {}
    for part in ast.parse(Path(__file__).read_text(encoding="utf-8")).body:
        for key, below in pairwise(part.body if isinstance(part, ast.ClassDef) else ()):
            match part, key, below:
                case (
                    ast.ClassDef(name=of),
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(sentence))),
                ):
                    found.setdefault(of, {})[name] = sentence
    return found


def _describe(schema: dict[str, Any]) -> None:
    parts = {**schema["$defs"], ScenarioPart.__name__: schema}
    known = sentences()
    for part in parts.keys() & known.keys():  # `NoRowPart` is of queue files and system files alone.
        for key, sentence in known[part].items():
            parts[part]["properties"][key]["description"] = sentence


def _tidy(schema: Any) -> None:
    """Leave out what says nothing: generated titles, and defaults that are only placeholders."""
    if isinstance(schema, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            for part in properties.values():
                part.pop("title", None)
                part.pop("default", None)
        for value in schema.values():
            _tidy(value)
    elif isinstance(schema, list):
        for item in schema:
            _tidy(item)
