"""What compose says of its services, their environment and how long each may take to stop."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from posixpath import basename, dirname, join, normpath
from typing import Any, Final, NamedTuple

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from job_harness.review.check.facts import (
    UNKNOWN,
    Facts,
    Limit,
    Place,
    QueueCall,
    Scalar,
    Service,
    SettingSource,
    Value,
)
from job_harness.review.check.readers.deployment import line_of_key, yaml_documents
from job_harness.review.check.settings import FLAG, meaning_of, number_of

NAMED: Final = re.compile(r"^(docker-)?compose(?P<kind>[\w.-]*)\.ya?ml$")
_OF_TESTS: Final = re.compile(r"(?i)(^|[._-])(tests?|e2e|ci|examples?|samples?)($|[._-])")
_FILLED_IN: Final = re.compile(
    r"\$(?:\$|\{(?P<braced>\w+)(?::?-(?P<default>[^{}]*)|:?[?+][^{}]*)?\}|(?P<bare>[A-Za-z_]\w*))"
)
Variables = Mapping[str, Mapping[str, Value]]
"""The files of variables that were read, by path."""


class ComposeFile(NamedTuple):
    """A compose file that deployments may read, and its services."""

    path: str
    services: Mapping[str, CommentedMap]

    @property
    def base(self) -> bool:
        """Whether other files of its folder are laid over it."""
        found = NAMED.match(basename(self.path))
        return found is not None and not found["kind"]


def read_compose(path: str, text: str) -> ComposeFile | None:
    """Read a compose file; None for one of tests, and for what is none."""
    found = NAMED.match(basename(path))
    if found is None or _OF_TESTS.search(found["kind"]):
        return None
    documents = yaml_documents(text)
    whole = documents[0] if documents else None
    services = whole.get("services") if isinstance(whole, CommentedMap) else None
    if not isinstance(services, CommentedMap):
        return None
    return ComposeFile(path, {str(name): one for name, one in services.items() if isinstance(one, CommentedMap)})


class Environment(NamedTuple):
    """All variables of one container, and the file that says so."""

    name: str
    path: str
    place: Place
    values: Mapping[str, Value]


def asked_of(facts: Facts) -> Callable[[str], bool]:
    """Return what tells a variable that settings are read from."""
    read = {value.variable for value in (*facts.values, *_given(facts.calls))}
    read |= {wait.variable for one in facts.handlings for wait in (*one.called, *one.imported)}
    return lambda variable: variable in read or variable == FLAG or meaning_of(variable) is not None


def add_environments(
    files: Iterable[ComposeFile], variables: Variables, facts: Facts, *, pods: Iterable[Environment] = ()
) -> None:
    """Make each service of compose, and each container of a pod, a service of the facts.

    It has those of its variables that settings are read from. What all of them agree on also stands
    in for the default that a call has in code.
    """
    asked = asked_of(facts)
    environments: dict[str, dict[str, dict[str, Value]]] = {}
    for one in sorted(files, key=lambda file: not file.base):
        below = environments.get(f"{dirname(one.path)}/", {})
        for name, service in one.services.items():
            told = {**below.get(name, {}), **_environment(one.path, name, service, variables, asked)}
            environments.setdefault(f"{dirname(one.path)}/" if one.base else one.path, {})[name] = told
            if told:
                place = Place(one.path, line_of_key(service, "environment"))
                facts.services.append(Service(name, basename(one.path), told, place, complete=False))
    for pod in pods:
        told = _kept(pod.name, pod.values, asked)
        environments.setdefault(pod.path, {})[f"{pod.name} {pod.place}"] = told
        if told:
            facts.services.append(Service(pod.name, basename(pod.path), told, pod.place, complete=False))
    _resolve([told for services in environments.values() for told in services.values()], facts)


COMPOSE_GRACE_SECONDS: Final = 10.0
"""What compose grants a stopping service that does not say `stop_grace_period`."""
_LENGTH: Final = re.compile(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?")
_FOR_DEVELOPERS: Final = re.compile(r"(?i)(^|[._-])(dev|develop|development|local|override|debug|build)($|[._-])")


def add_graces(files: Sequence[ComposeFile], facts: Facts) -> None:
    """Note how long each service that is built here may take to stop; of files for developers nothing is noted."""
    for one in files:
        found = NAMED.match(basename(one.path))
        if found is None or _FOR_DEVELOPERS.search(found["kind"]):
            continue
        for name, service in one.services.items():
            beside = [
                file.services[name]
                for file in files
                if dirname(file.path) == dirname(one.path) and name in file.services
            ]
            told = service.get("stop_grace_period")
            if told is None and any("stop_grace_period" in other for other in beside):
                continue
            contexts = [_context(other["build"]) for other in (service, *beside) if "build" in other]
            seconds = COMPOSE_GRACE_SECONDS if told is None else _length(told)
            if seconds is not None and contexts and contexts[0] is not None:
                line = line_of_key(service, "build" if told is None else "stop_grace_period")
                context = normpath(join(dirname(one.path), contexts[0]))
                place = Place(one.path, line)
                facts.limits.append(
                    Limit(
                        "grace",
                        seconds,
                        place,
                        pattern="" if context == "." else f"{context}/",
                        service=name,
                        setting="stop_grace_period",
                        usual=told is None,
                        signal=_signal(service, *beside),
                    )
                )


def _signal(*services: CommentedMap) -> str:
    """Return how a service is told to stop."""
    told = next((str(one["stop_signal"]) for one in services if "stop_signal" in one), "SIGTERM")
    return told if told.startswith("SIG") else f"SIG{told}"


def _context(build: Any) -> str | None:
    told = build.get("context", ".") if isinstance(build, CommentedMap) else build
    return told if isinstance(told, str) and "$" not in told and "://" not in told else None


def _length(told: Any) -> float | None:
    found = _LENGTH.fullmatch(told.strip()) if isinstance(told, str) else None
    if found is None or not any(found.groups()):
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600.0 + minutes * 60 + seconds


def _given(calls: Iterable[QueueCall]) -> Iterator[Value]:
    return (value for call in calls for value in call.options.values())


def _environment(
    path: str, name: str, service: CommentedMap, variables: Variables, asked: Callable[[str], bool]
) -> dict[str, Value]:
    """Return the variables of a service that settings are read from: `environment` lies over `env_file`."""
    folder = dirname(path)
    found: dict[str, Value] = {}
    for file in _files(service.get("env_file")):
        found |= variables.get(normpath(join(folder, file)), {})
    beside = variables.get(join(folder, ".env"), {})
    for variable, written, line in _pairs(service.get("environment")):
        told = UNKNOWN if written is None else _filled_in(written, beside)
        found[variable] = Value(variable, told, Place(path, line), SettingSource.ENVIRONMENT)
    return _kept(name, found, asked)


def _kept(name: str, found: Mapping[str, Value], asked: Callable[[str], bool]) -> dict[str, Value]:
    return {variable: replace(value, service=name) for variable, value in found.items() if asked(variable)}


def _files(told: Any) -> Iterator[str]:
    for one in told if isinstance(told, list) else [told]:
        path = one.get("path") if isinstance(one, CommentedMap) else one
        if isinstance(path, str):
            yield path


def _pairs(told: Any) -> Iterator[tuple[str, str | None, int]]:
    """List names, values and lines of a map or a list of variables; what the shell hands on has no value."""
    if isinstance(told, CommentedMap):
        for name, value in told.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            yield str(name), text if isinstance(value, (str, int, float)) else None, line_of_key(told, name)
    elif isinstance(told, CommentedSeq):
        for number, item in enumerate(told):
            name, sign, value = item.partition("=") if isinstance(item, str) else ("", "", "")
            yield name.strip(), value if sign else None, told.lc.item(number)[0] + 1


def _filled_in(text: str, variables: Mapping[str, Value]) -> Scalar:
    """Fill in `${NAME:-default}` as compose does: from the `.env` beside the file, else the default."""
    known = True

    def value_of(found: re.Match[str]) -> str:
        nonlocal known
        name = found["braced"] or found["bare"]
        if name is None:
            return "$"
        told = variables[name].value if name in variables else found["default"]
        known = known and isinstance(told, str)
        return str(told)

    filled = _FILLED_IN.sub(value_of, text)
    return filled if known and "${" not in filled else UNKNOWN


def _resolve(environments: list[dict[str, Value]], facts: Facts) -> None:
    """Let calls have what every service of compose that sets a variable says, and not the default in code."""
    told: dict[str, set[Scalar]] = {}
    for environment in environments:
        for name, value in environment.items():
            told.setdefault(name, set()).add(value.value)
    agreed = {name: next(iter(values)) for name, values in told.items() if len(values) == 1}
    if not agreed:
        return
    for at, call in enumerate(facts.calls):
        options = {name: _with(value, agreed) for name, value in call.options.items()}
        facts.calls[at] = replace(call, options=options)


def _with(value: Value, agreed: Mapping[str, Scalar]) -> Value:
    if value.variable not in agreed:
        return value
    number = number_of(agreed[value.variable])
    if number is None:
        return replace(value, value=agreed[value.variable])
    whole = number * value.factor
    return replace(value, value=int(whole) if whole == int(whole) else whole)
