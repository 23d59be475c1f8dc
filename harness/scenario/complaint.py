"""Puts what pydantic found wrong into words that name the value and what would have been accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

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


def problems_of(error: ValidationError, document: Document) -> list[Problem]:
    """Answer one problem for each error, each with its line."""
    problems = []
    forms_told = False
    for detail in error.errors(include_url=False):
        path: Path = tuple(part for part in detail["loc"] if part != "[key]")
        message = _message(detail, path)
        if message.startswith("no such step"):
            message = message if not forms_told else message.partition(". Steps look like")[0]
            forms_told = True
        problems.append(Problem(document.line(path), message))
    return problems


def _message(detail: Mapping[str, Any], path: Path) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx") or {}
    name = ".".join(map(str, path)) or "the file"
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if kind == "missing":
        return _missing(path)
    if kind == "value_error":
        text = str(context["error"])
        return text if path and path[0] == "steps" else f"{name}: {text}"
    if kind in _WANTED:
        return f"{name}: expected {_WANTED[kind]}, got {described(value)}"
    if kind == "literal_error":
        return _literal(name, value, str(context["expected"]))
    return f"{name}: {detail['msg'].replace('Input should', 'it must')}; got {shown(value)}"


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


def _literal(name: str, value: Any, expected: str) -> str:
    if name == "format":
        return f"format: this program reads format 1, not {shown(value)}; write `format: 1`"
    known = [item.strip("'\" ") for item in expected.replace(" or ", ", ").split(",")]
    return f"{name}: {shown(value)} is not accepted{did_you_mean(str(value), known)}. There are {', '.join(known)}"


def keys_at(path: Path) -> list[str]:
    """List the keys that the part of a scenario at this path knows."""
    model: Any = ScenarioPart
    for part in path:
        field = model.model_fields.get(part) if isinstance(part, str) and model is not None else None
        if field is not None:
            model = _model_in(field.annotation)
    return list(model.model_fields) if model is not None else []


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)
