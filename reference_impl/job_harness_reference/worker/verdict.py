"""What a processor's answer means for its job: whatever it does, there is a verdict with a readable error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from job_harness_reference.models import JobResult, JsonValue, NonRetryableError
from job_harness_reference.suggestion import did_you_mean

_LONGEST_ERROR = 16_384
"""Characters of an error that are kept."""


@dataclass(frozen=True, slots=True)
class Returned:
    """The processor came to its end with a value, of whatever kind."""

    value: object


@dataclass(frozen=True, slots=True)
class Raised:
    """The processor raised; `BaseException` included."""

    error: BaseException


Answer: TypeAlias = Returned | Raised


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The job is done."""

    output: JsonValue


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed; `final` leaves no attempt."""

    error: str
    final: bool = False


Verdict: TypeAlias = Succeeded | Failed


def judge(answer: Answer) -> Verdict:
    """Turn any answer into a verdict. Never raises."""
    match answer:
        case Raised(error):
            return Failed(describe_error(error), final=isinstance(error, NonRetryableError))
        case Returned(value):
            try:
                return _judge_value(value)
            except BaseException as error:  # noqa: BLE001 - a hostile JobResult may raise anything when read
                return Failed(f"the processor's result could not be read: {describe_error(error)}")


def describe_error(error: BaseException) -> str:
    """Say what was raised: never empty, never longer than 16 384 characters, whatever `str(error)` does."""
    name = type(error).__name__
    try:
        message = str(error)
    except BaseException as broken:  # noqa: BLE001 - the user's __str__ may raise anything
        return f"{name}: its message cannot be read, str() raised {type(broken).__name__}"
    return shorten(f"{name}: {message}" if message.strip() else name)


def shorten(text: str) -> str:
    """Keep the beginning of a long text and say how much was dropped."""
    if len(text) <= _LONGEST_ERROR:
        return text
    return f"{text[: _LONGEST_ERROR - 60]}... ({len(text)} characters in all)"


class NoResultError(TypeError):
    """What a processor returned is neither a JobResult nor a dict that says the same."""


def result_of(value: object) -> JobResult:
    """Return what a processor returned as a JobResult.

    It is one, a dict of `success`, `output`, `error` and `retryable`, or an object of an application's own class whose
    `success` is a boolean. Raises NoResultError for anything else, and for a dict with another key, a success that is
    no bool, or an error that is no text.
    """
    if isinstance(value, JobResult):
        return value
    if not isinstance(value, dict) and type(getattr(value, "success", None)) is bool:
        return JobResult(**{key: getattr(value, key) for key in _KEYS if hasattr(value, key)})
    if not isinstance(value, dict):
        raise NoResultError(f"the processor returned {_kind(value)} where a JobResult is expected: {_instead(value)}")
    if not any(key in _KEYS or "did you mean" in did_you_mean(str(key), _KEYS) for key in value):
        raise NoResultError(f"the processor returned a dict that does not say whether it succeeded: {_instead(value)}")
    for key in value:
        if key not in _KEYS:
            raise NoResultError(f"the processor returned a dict with the key {key!r}: {did_you_mean(str(key), _KEYS)}")
    if value.get("success") is not True and value.get("success") is not False:
        given = _kind(value["success"]) if "success" in value else "missing"
        raise NoResultError(f"the processor returned a dict whose success is {given}, neither True nor False")
    for key, kind, wanted in (("error", str | None, "text"), ("retryable", bool, "True or False")):
        if key in value and not isinstance(value[key], kind):
            raise NoResultError(f"the processor returned a dict whose {key} is {_kind(value[key])}, not {wanted}")
    if value["success"] and value.get("error") is not None:
        raise NoResultError("the processor returned a dict with success True and an error: it is one or the other")
    return JobResult(**value)


_KEYS = ("success", "output", "error", "retryable")
_LONGEST_OUTPUT = 60


def _instead(value: object) -> str:
    """Say what to return, with the value that was returned as the output."""
    written = repr(value)
    output = "" if value is None else f", output={written if len(written) <= _LONGEST_OUTPUT else '...'}"
    return (
        f"return JobResult(success=True{output}), or a dict with these keys; where it failed, raise an error "
        "or return JobResult(success=False, error='...')"
    )


def _judge_value(value: object) -> Verdict:
    try:
        value = result_of(value)
    except NoResultError as error:
        return Failed(str(error))
    success: object = value.success
    if success is True:
        return Succeeded(value.output)
    if success is not False:
        return Failed(f"the processor's JobResult.success is {_kind(success)}, neither True nor False")
    return Failed(_error_text(value.error), final=value.retryable is False)


def _error_text(error: object) -> str:
    if isinstance(error, BaseException):
        return describe_error(error)
    text = error if isinstance(error, str) else "" if error is None else str(error)
    return shorten(text) if text.strip() else "the processor reported a failure without saying why"


def _kind(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"
