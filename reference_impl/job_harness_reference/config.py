"""Every setting of the queue, its default, and the rules between them.

`Config(...)` is hermetic; only `load_config()` reads the environment. Both list all contradictions at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from job_harness_reference.errors import ConfigurationError

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
    """Carries the contradictions through pydantic's own error."""

    def __init__(self, problems: tuple[Contradiction, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def _flag(value: object) -> object:
    """Read a switch strictly: `true` or `false`, nothing that merely looks like it."""
    if isinstance(value, str):
        match value:
            case "true":
                return True
            case "false":
                return False
            case _:
                raise ValueError("must be exactly true or false")
    return value


Seconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS, allow_inf_nan=False)]
Flag = Annotated[bool, BeforeValidator(_flag)]


class Config(BaseModel):
    """The settings of one process. Durations are in the unit that the name ends with."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, validate_default=False, hide_input_in_errors=True
    )

    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL", repr=False)
    use_pgboss_workers: str | None = Field(default=None, validation_alias="USE_PGBOSS_WORKERS")
    cron_secret: str | None = Field(default=None, validation_alias="CRON_SECRET", repr=False)

    job_timeout_ms: int = Field(default=600_000, validation_alias="JOB_TIMEOUT_MS", gt=0, le=LONGEST_SECONDS * 1000)
    job_timeout_seconds: Seconds = Field(default=600, validation_alias="JOB_TIMEOUT_SECONDS")
    job_expire_in_seconds: Seconds = Field(default=600 + LEASE_MARGIN_SECONDS, validation_alias="JOB_EXPIRE_IN_SECONDS")
    stuck_job_timeout_minutes: float = Field(
        default=30,
        validation_alias="STUCK_JOB_TIMEOUT_MINUTES",
        gt=0,
        le=LONGEST_SECONDS / 60,
        allow_inf_nan=False,
    )

    job_max_attempts: int = Field(default=3, validation_alias="JOB_MAX_ATTEMPTS", ge=1, le=1000)
    job_retry_limit: int = Field(default=2, validation_alias="JOB_RETRY_LIMIT", ge=0, le=999)
    job_retry_delay_seconds: Seconds = Field(default=60, validation_alias="JOB_RETRY_DELAY_SECONDS")
    job_retry_backoff: Flag = Field(default=True, validation_alias="JOB_RETRY_BACKOFF")
    job_retry_delay_max_seconds: Seconds = Field(default=3600, validation_alias="JOB_RETRY_DELAY_MAX_SECONDS")
    job_retention_days: float = Field(
        default=7, validation_alias="JOB_RETENTION_DAYS", gt=0, le=36_500, allow_inf_nan=False
    )

    pgboss_batch_size: int = Field(default=5, validation_alias="PGBOSS_BATCH_SIZE", ge=1, le=1000)
    pgboss_polling_interval: float = Field(
        default=2, validation_alias="PGBOSS_POLLING_INTERVAL", gt=0, le=3600, allow_inf_nan=False
    )
    processor_cancel_grace_seconds: Seconds = Field(default=5, validation_alias="PROCESSOR_CANCEL_GRACE_SECONDS")
    worker_shutdown_grace_seconds: float = Field(
        default=20, validation_alias="WORKER_SHUTDOWN_GRACE_SECONDS", ge=0, le=86_400, allow_inf_nan=False
    )

    job_input_limit_bytes: int = Field(default=1_048_576, validation_alias="JOB_INPUT_LIMIT_BYTES", gt=0, le=2**28)
    job_output_limit_bytes: int = Field(default=16_777_216, validation_alias="JOB_OUTPUT_LIMIT_BYTES", gt=0, le=2**28)

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, values: Any) -> Any:
        """Fill in what follows from what was set, so that one variable is enough to change a pair."""
        return _derived(dict(values)) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = contradictions(self)
        if problems:
            raise ContradictoryError(problems)
        return self

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


class Environment(BaseSettings, Config):
    """The same settings, read from the process environment. Names are case-sensitive."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", populate_by_name=False, case_sensitive=True, hide_input_in_errors=True
    )


_ALIASES = {name: str(field.validation_alias) for name, field in Config.model_fields.items()}


def _derived(values: dict[str, Any]) -> dict[str, Any]:
    """Complete the pairs: ms and seconds, expiry from timeout, retries and attempts from each other."""

    def given(name: str) -> Any:
        return values.get(name, values.get(_ALIASES[name]))

    def fill(name: str, value: float) -> None:
        if given(name) is None:
            values[_ALIASES[name]] = value

    milliseconds, seconds = _number(given("job_timeout_ms")), _number(given("job_timeout_seconds"))
    if milliseconds is not None:
        fill("job_timeout_seconds", milliseconds / 1000)
    elif seconds is not None and given("job_timeout_ms") is None:
        fill("job_timeout_ms", round(seconds * 1000))
        milliseconds = seconds * 1000
    if milliseconds is not None:
        fill("job_expire_in_seconds", milliseconds / 1000 + LEASE_MARGIN_SECONDS)
    attempts = _number(given("job_max_attempts"))
    if attempts is not None:
        fill("job_retry_limit", max(0, round(attempts) - 1))
    elif given("job_max_attempts") is None and (retries := _number(given("job_retry_limit"), above=-1.0)) is not None:
        fill("job_max_attempts", round(retries) + 1)
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
    try:
        return Environment() if environ is None else Config.model_validate(_known(environ))
    except ValidationError as error:
        problems = _problems(error, environ=os.environ if environ is None else environ)
        raise ConfigurationError(_sentence(problems)) from None


def _known(environ: Mapping[str, str]) -> dict[str, str]:
    return {alias: environ[alias] for alias in _ALIASES.values() if alias in environ}


def _problems(error: ValidationError, *, environ: Mapping[str, str]) -> list[Contradiction]:
    """List what could not be read, then the contradictions among the rest."""
    problems: list[Contradiction] = []
    for detail in error.errors():
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, ContradictoryError):
            problems.extend(cause.problems)
        else:
            problems.append(_unreadable(detail["loc"], detail["msg"], environ=environ))
    unreadable = {problem.variable for problem in problems if not problem.against}
    if unreadable:
        try:
            Config.model_validate({k: v for k, v in _known(environ).items() if k not in unreadable})
        except ValidationError as rest:
            causes = [each.get("ctx", {}).get("error") for each in rest.errors()]
            found = [p for cause in causes if isinstance(cause, ContradictoryError) for p in cause.problems]
            problems.extend(p for p in found if unreadable.isdisjoint({p.variable, p.against}))
    return problems


def _unreadable(where: tuple[int | str, ...], message: str, *, environ: Mapping[str, str]) -> Contradiction:
    variable = str(where[0]) if where else "the environment"
    variable = _ALIASES.get(variable, variable)
    defaults = {alias: Config.model_fields[name].default for name, alias in _ALIASES.items()}
    default = defaults.get(variable)
    accepted = str(default).lower() if isinstance(default, bool) else str(default)
    reason = message.removeprefix("Value error, ")
    return Contradiction(variable=variable, value=repr(environ.get(variable, "")), why=reason, accepted=accepted)


def _sentence(problems: Iterable[Contradiction]) -> str:
    lines = [f"  {problem}" for problem in problems]
    count = "one setting" if len(lines) == 1 else f"{len(lines)} settings"
    return "\n".join([f"The configuration cannot be used: {count} must change.", *lines])
