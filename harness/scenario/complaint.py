"""Puts what pydantic found wrong into words that name the value and what would have been accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError

from harness.errors import did_you_mean
from harness.scenario.document import Document, Path
from harness.scenario.notation import described
from harness.scenario.problem import Problem, shown
from harness.scenario.schema import ScenarioPart

_WANTED = {
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of names to values",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "string_type": "text",
}
_BOUNDS = {
    "too_short": "at least {min_length} must be there",
    "too_long": "at most {max_length} are accepted",
    "string_too_short": "expected at least {min_length} character",
    "string_too_long": "expected at most {max_length} characters",
    "greater_than_equal": "expected at least {ge}",
    "less_than_equal": "expected at most {le}",
    "string_pattern_mismatch": "expected `module:factory` or `path/to/file.py:factory`",
    "string_unicode": "expected text without lone surrogates",
}
"""What is said of a value out of bounds; the only pattern is that of a target."""


def problems_of(error: ValidationError, document: Document) -> list[Problem]:
    """Answer one problem for each error, each with its line."""
    problems = []
    forms_told = False
    for detail in error.errors(include_url=False):
        path, form = _place(detail, document.data)
        if form is not None and not form.meant:
            continue  # The value was held against every form that it may have; only the one that was meant is told of.
        message = _message(detail, path)
        if form is not None:
            message = message.replace("expected text, got", "expected text, or a mapping with `run`, got")
        if message.startswith("no such step"):
            message = message if not forms_told else message.partition(". Steps look like")[0]
            forms_told = True
        problems.append(Problem(document.line(path), message))
    return problems


class _Form(NamedTuple):
    """One of several forms that a value may have: text, or a mapping."""

    meant: bool
    """Whether the value is of this kind at all."""


def _place(detail: Mapping[str, Any], data: Any) -> tuple[Path, _Form | None]:
    """Answer where in the file it is, and which form of several the value was held against.

    pydantic puts that form into the path, by the name of a class or of a function; no reader has ever heard of it.
    """
    path: list[str | int] = []
    form = None
    parts = [part for part in detail["loc"] if part != "[key]"]
    for number, part in enumerate(parts):
        if _has(_at(data, path), part) or (detail["type"] == "missing" and number == len(parts) - 1):
            path.append(part)
        else:
            text = str(part).startswith(("function-", "str"))
            form = _Form(meant=isinstance(_at(data, path), dict) is not text)
    return tuple(path), form


def _has(value: Any, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def _at(data: Any, path: Sequence[str | int]) -> Any:
    for part in path:
        data = data[part] if _has(data, part) else None
    return data


def _message(detail: Mapping[str, Any], path: Path) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx") or {}
    at = f"{'.'.join(map(str, path))}: " if path else ""
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if kind == "missing":
        return _missing(path)
    if kind == "value_error":
        text = str(context["error"])
        return text if path and path[0] == "steps" else f"{at}{text}"
    if kind in _WANTED:
        return f"{at}expected {_WANTED[kind]}, got {described(value)}"
    if kind == "literal_error":
        return _literal(at, value, str(context["expected"]))
    kind = f"string_{kind}" if isinstance(value, str) and f"string_{kind}" in _BOUNDS else kind
    if kind in _BOUNDS:
        return f"{at}{_BOUNDS[kind].format(**context)}, got {_size(value)}"
    return f"{at}{shown(value)} is not accepted"


def _size(value: Any) -> str:
    """Say how much there is of what is too short or too long, and else the value itself."""
    if isinstance(value, str) and len(value) > 60:
        return f"{len(value)} characters"
    return str(len(value)) if isinstance(value, dict | list) else shown(value)


def _unknown_key(path: Path) -> str:
    *above, key = path
    known = keys_at(tuple(above))
    where = f" in {'.'.join(map(str, above))}" if above else ""
    return f"unknown key {key!r}{where}{did_you_mean(str(key), known)}. Known keys: {', '.join(known)}"


def _missing(path: Path) -> str:
    *above, key = path
    if key == "format":
        return "the key `format` is missing; a scenario starts with `format: 1`"
    where = f" in {'.'.join(map(str, above))}" if above else ""
    return f"the key {key!r}{where} is missing"


def _literal(at: str, value: Any, expected: str) -> str:
    if at == "format: ":
        return f"format: this program reads format 1, not {shown(value)}; write `format: 1`"
    known = [item.strip("'\" ") for item in expected.replace(" or ", ", ").split(",")]
    return f"{at}{described(value)} is not accepted{did_you_mean(str(value), known)}. There are {', '.join(known)}"


def keys_at(path: Path) -> list[str]:
    """List the keys that the part of a scenario at this path knows."""
    model: Any = ScenarioPart
    named = False
    for part in path:
        if named or model is None:  # The name of a job, a tool or a variable, or a place in a list: no key of ours.
            named = False
            continue
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        model, named = _model_in(annotation), get_origin(annotation) in (dict, list)
    return list(model.model_fields) if model is not None else []


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)
