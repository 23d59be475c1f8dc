"""Every setting of the queue, its default, and the rules between them.

`Config(...)` is hermetic; only `load_config()` reads the environment. Both list all contradictions at once.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Self

from job_harness_reference.errors import ConfigurationError
from job_harness_reference.suggestion import did_you_mean

LEASE_MARGIN_SECONDS = 60.0
"""By how much the queue's expiry outlives the processor's timeout where no expiry is set."""

SETTLE_SECONDS = 5.0
"""What settling a job may take: beside the cancel grace, the least margin between timeout and expiry."""

CRON_PERIOD_SECONDS = 60.0
"""How often the cron calls maintenance; the least margin between expiry and stuck timeout."""

LONGEST_SECONDS = 365 * 86400.0
"""Every duration stays below a year, so that no sum of them overflows an interval."""

_NO_SECRETS = frozenset({"", "undefined", "null", "none"})


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One setting that cannot stand, and a value that could."""

    variable: str
    value: str
    why: str
    accepted: str
    against: str = ""
    """The other variable of the pair."""

    def __str__(self) -> str:
        return f"{self.variable}={self.value}: {self.why}. Set {self.variable}={self.accepted}."


class ContradictoryError(ValueError):
    """Carries everything that has to change."""

    def __init__(self, problems: tuple[Contradiction, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a number may be; `least` itself too, unless it is `above` that."""

    most: float
    least: float = 0
    above: bool = True
    whole: bool = False

    def read(self, value: Any) -> float:
        """Return the number. Raises ValueError with what it must be."""
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number) or (self.whole and number != int(number)):
            raise ValueError(f"must be a {'whole' if self.whole else 'finite'} number")
        if number < self.least or (self.above and number == self.least):
            raise ValueError(f"must be greater than {'' if self.above else 'or equal to '}{self.least:g}")
        if number > self.most:
            raise ValueError(f"must be less than or equal to {self.most:.15g}")
        return int(number) if self.whole else number


def _limited(default: float, most: float, *, least: float | None = None, whole: bool = False) -> Any:
    """Declare a number up to `most`: above 0, or from `least` on."""
    return field(default=default, metadata={"bounds": Bounds(most, least or 0, least is None, whole)})


@dataclass(frozen=True, init=False)
class Config:
    """The settings of one process. Durations are in the unit that the name ends with; variables are in capitals."""

    database_url: str | None = field(default=None, repr=False)
    use_pgboss_workers: str | None = None
    cron_secret: str | None = field(default=None, repr=False)

    job_timeout_ms: int = _limited(600_000, LONGEST_SECONDS * 1000, whole=True)
    job_timeout_seconds: float = _limited(600, LONGEST_SECONDS)
    job_expire_in_seconds: float = _limited(600 + LEASE_MARGIN_SECONDS, LONGEST_SECONDS)
    stuck_job_timeout_minutes: float = _limited(30, LONGEST_SECONDS / 60)

    job_max_attempts: int = _limited(3, 1000, least=1, whole=True)
    job_retry_limit: int = _limited(2, 999, least=0, whole=True)
    job_retry_delay_seconds: float = _limited(60, LONGEST_SECONDS)
    job_retry_backoff: bool = True
    job_retry_delay_max_seconds: float = _limited(3600, LONGEST_SECONDS)
    job_retention_days: float = _limited(7, 36_500)

    pgboss_batch_size: int = _limited(5, 1000, least=1, whole=True)
    pgboss_polling_interval: float = _limited(2, 3600)
    processor_cancel_grace_seconds: float = _limited(5, LONGEST_SECONDS)
    worker_shutdown_grace_seconds: float = _limited(20, 86_400, least=0)

    job_input_limit_bytes: int = _limited(1_048_576, 2**28, whole=True)
    job_output_limit_bytes: int = _limited(16_777_216, 2**28, whole=True)

    def __init__(self, **given: Any) -> None:
        """Take what is given, and what follows from it. Raises ContradictoryError, with all that has to change."""
        if unknown := sorted(given.keys() - _DEFAULTS.keys()):
            raise TypeError(f"there is no setting {unknown[0]!r}: {did_you_mean(unknown[0], _DEFAULTS)}")
        values, problems = _read(_derived(given))
        wrong = {problem.variable for problem in problems}
        if wrong:  # what would follow from these contradicts nothing
            values, _ = _read(_derived({name: each for name, each in given.items() if name.upper() not in wrong}))
        vars(self).update(_DEFAULTS | values)
        problems += (each for each in contradictions(self) if wrong.isdisjoint({each.variable, each.against}))
        if problems:
            raise ContradictoryError(tuple(problems))

    @classmethod
    def unchecked(cls, **values: Any) -> Self:
        """Make one that may contradict itself; nothing follows from what is given."""
        made = cls.__new__(cls)
        vars(made).update(_DEFAULTS | values)
        return made

    @property
    def job_timeout(self) -> timedelta:
        """The processor is stopped after this."""
        return timedelta(milliseconds=self.job_timeout_ms)

    @property
    def lease(self) -> timedelta:
        """How long a claim lasts without a heartbeat: `expire_in`."""
        return timedelta(seconds=self.job_expire_in_seconds)

    @property
    def heartbeat_seconds(self) -> float:
        """How often a running job's lease is extended; a cancelled job's processor learns of it that soon."""
        return min(self.job_expire_in_seconds / 4, 30.0)

    @property
    def stuck_after(self) -> timedelta:
        """Maintenance takes a job back after this long in PROCESSING."""
        return timedelta(minutes=self.stuck_job_timeout_minutes)

    @property
    def workers_enabled(self) -> bool:
        """Whether `USE_PGBOSS_WORKERS` is exactly `true`."""
        return self.use_pgboss_workers == "true"

    @property
    def workers_off_reason(self) -> str | None:
        """Say why no worker starts and what to do about it; `None` where workers are enabled."""
        if self.workers_enabled:
            return None
        found = "not set" if self.use_pgboss_workers is None else f"{self.use_pgboss_workers!r}, not 'true'"
        return (
            f"USE_PGBOSS_WORKERS is {found}: workers do not start, so jobs are queued and stay PENDING. "
            "Set USE_PGBOSS_WORKERS=true and start the worker again."
        )

    @property
    def usable_cron_secret(self) -> str | None:
        """The cron's secret, stripped; `None` where it is unset, blank, or the text of an unset variable.

        A header cannot carry the newline with which a file of secrets ends.
        """
        secret = self.cron_secret
        return None if secret is None or secret.strip().lower() in _NO_SECRETS else secret.strip()


_DEFAULTS: dict[str, Any] = {each.name: each.default for each in fields(Config)}


def _read(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[Contradiction]]:
    """Return the values that can be read, and why the others cannot."""
    read: dict[str, Any] = {}
    problems = []
    for each in fields(Config):
        if each.name not in values:
            continue
        value = values[each.name]
        try:
            bounds: Bounds | None = each.metadata.get("bounds")
            reads = bounds.read if bounds is not None else _flag if each.name == "job_retry_backoff" else _text
            read[each.name] = reads(value)
        except ValueError as error:
            accepted, shown = str(each.default).lower(), repr(value) if each.repr else "..."
            problems.append(Contradiction(each.name.upper(), shown, str(error), accepted))
    return read, problems


def _flag(value: object) -> bool:
    """Read a switch strictly: `true` or `false`, nothing that merely looks like it."""
    if value not in ("true", "false", True, False):
        raise ValueError("must be exactly true or false")
    return value in ("true", True)


def _text(value: object) -> object:
    if value is not None and not isinstance(value, str):
        raise ValueError("must be text")
    return value


def _derived(given: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the pairs: ms and seconds, expiry from timeout, retries and attempts from each other."""
    values = dict(given)
    milliseconds, seconds = _number(given.get("job_timeout_ms")), _number(given.get("job_timeout_seconds"))
    if milliseconds is not None:
        values.setdefault("job_timeout_seconds", milliseconds / 1000)
    elif seconds is not None and "job_timeout_ms" not in given:
        milliseconds = seconds * 1000
        values["job_timeout_ms"] = round(milliseconds)
    if milliseconds is not None:
        values.setdefault("job_expire_in_seconds", milliseconds / 1000 + LEASE_MARGIN_SECONDS)
    attempts = _number(given.get("job_max_attempts"))
    if attempts is not None:
        values.setdefault("job_retry_limit", max(0, round(attempts) - 1))
    elif "job_max_attempts" not in given:
        retries = _number(given.get("job_retry_limit"), above=-1.0)
        if retries is not None:
            values["job_max_attempts"] = round(retries) + 1
    return values


def _number(value: object, *, above: float = 0.0) -> float | None:
    """Read a finite number above `above`; anything else is left to the field's own check."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if above < number <= LONGEST_SECONDS * 1000 else None


def contradictions(config: Config) -> tuple[Contradiction, ...]:
    """Name every pair of settings that cannot both hold."""
    found = (rule(config) for rule in _RULES)
    return tuple(problem for problem in found if problem is not None)


def _seconds_restate_milliseconds(config: Config) -> Contradiction | None:
    timeout = config.job_timeout_ms / 1000
    if abs(config.job_timeout_seconds - timeout) <= 1e-9:
        return None
    return Contradiction(
        variable="JOB_TIMEOUT_SECONDS",
        value=f"{config.job_timeout_seconds:g}",
        why=f"must be JOB_TIMEOUT_MS / 1000, and JOB_TIMEOUT_MS is {config.job_timeout_ms}",
        accepted=f"{timeout:g}",
        against="JOB_TIMEOUT_MS",
    )


def _least_expiry(config: Config) -> float:
    return config.job_timeout_ms / 1000 + config.processor_cancel_grace_seconds + SETTLE_SECONDS


def _expiry_outlives_timeout(config: Config) -> Contradiction | None:
    least = _least_expiry(config)
    if config.job_expire_in_seconds >= least:
        return None
    return Contradiction(
        variable="JOB_EXPIRE_IN_SECONDS",
        value=f"{config.job_expire_in_seconds:g}",
        why=(
            f"the queue would take a job back that may still run: JOB_TIMEOUT_MS is {config.job_timeout_ms}, "
            f"stopping takes up to {config.processor_cancel_grace_seconds:g} s "
            f"(PROCESSOR_CANCEL_GRACE_SECONDS) and settling {SETTLE_SECONDS:g} s"
        ),
        accepted=f"{max(config.job_timeout_ms / 1000 + LEASE_MARGIN_SECONDS, least):g}",
        against="JOB_TIMEOUT_MS",
    )


def _stuck_outlives_expiry(config: Config) -> Contradiction | None:
    expiry = config.job_expire_in_seconds
    if config.stuck_job_timeout_minutes * 60 >= expiry + CRON_PERIOD_SECONDS:
        return None
    least = max(expiry, _least_expiry(config)) + CRON_PERIOD_SECONDS
    return Contradiction(
        variable="STUCK_JOB_TIMEOUT_MINUTES",
        value=f"{config.stuck_job_timeout_minutes:g}",
        why=(
            f"maintenance would free jobs that still run; it must exceed "
            f"JOB_EXPIRE_IN_SECONDS ({expiry:g} s) "
            f"by a cron period ({CRON_PERIOD_SECONDS:g} s)"
        ),
        accepted=f"{-(-least // 60):g}",
        against="JOB_EXPIRE_IN_SECONDS",
    )


def _retries_are_attempts_less_one(config: Config) -> Contradiction | None:
    if config.job_retry_limit == config.job_max_attempts - 1:
        return None
    return Contradiction(
        variable="JOB_RETRY_LIMIT",
        value=str(config.job_retry_limit),
        why=(
            f"counts retries, so {config.job_retry_limit} would deliver a job "
            f"{config.job_retry_limit + 1} times; "
            f"JOB_MAX_ATTEMPTS is {config.job_max_attempts}"
        ),
        accepted=str(config.job_max_attempts - 1),
        against="JOB_MAX_ATTEMPTS",
    )


def _cap_holds_first_delay(config: Config) -> Contradiction | None:
    if config.job_retry_delay_max_seconds >= config.job_retry_delay_seconds:
        return None
    return Contradiction(
        variable="JOB_RETRY_DELAY_MAX_SECONDS",
        value=f"{config.job_retry_delay_max_seconds:g}",
        why=f"the cap is below JOB_RETRY_DELAY_SECONDS, which is {config.job_retry_delay_seconds:g}",
        accepted=f"{config.job_retry_delay_seconds:g}",
        against="JOB_RETRY_DELAY_SECONDS",
    )


_RULES = (
    _seconds_restate_milliseconds,
    _expiry_outlives_timeout,
    _stuck_outlives_expiry,
    _retries_are_attempts_less_one,
    _cap_holds_first_delay,
)


def load_config(environ: Mapping[str, str] | None = None) -> Config:
    """Read the settings from the environment, the process's own if none is given.

    Raises `ConfigurationError`, which lists everything that has to change.
    """
    environ = os.environ if environ is None else environ
    try:
        return Config(**{name: environ[name.upper()] for name in _DEFAULTS if name.upper() in environ})
    except ContradictoryError as error:
        raise ConfigurationError(_sentence(error.problems)) from None


def _sentence(problems: Iterable[Contradiction]) -> str:
    lines = [f"  {problem}" for problem in problems]
    count = "one setting" if len(lines) == 1 else f"{len(lines)} settings"
    return "\n".join([f"The configuration cannot be used: {count} must change.", *lines])
