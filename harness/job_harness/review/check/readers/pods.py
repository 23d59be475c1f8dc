"""What manifests of Kubernetes say of their containers: how long each may take to stop, and its environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from ruamel.yaml.comments import CommentedMap

from job_harness.review.check.facts import LONGEST_GRACE, UNKNOWN, Facts, Limit, Place, SettingSource, Value
from job_harness.review.check.readers.compose import Environment
from job_harness.review.check.readers.deployment import line_of_key, yaml_documents

SETTING: Final = "terminationGracePeriodSeconds"
GRACE: Final = f"{SETTING}:".encode()
WORTH_READING: Final = (GRACE, b"containers:", b"ConfigMap")
"""A manifest that has none of these says nothing of a container."""
_NAME: Final = re.compile(r"\b[A-Z][A-Z0-9_]+\b")
"""What a variable of the environment is called."""


class Manifest(NamedTuple):
    """A file with pods or ConfigMaps; it is parsed once it is known what is asked of it."""

    path: str
    text: str


def read_pods(manifests: Iterable[Manifest], wanted: Callable[[str], bool], facts: Facts) -> list[Environment]:
    """Note how long pods may take to stop, and list the environments of their containers.

    A file is parsed where it says how long, or names a variable that is wanted.
    """
    told: dict[str, Any] = {}
    for one in manifests:
        if GRACE.decode() in one.text or any(map(wanted, set(_NAME.findall(one.text)))):
            told[one.path] = yaml_documents(one.text) or []
    shared = {
        name: found for path, whole in told.items() for here in _maps(whole) for name, found in _config_map(path, here)
    }
    pods = [(path, here) for path, whole in told.items() for here in _maps(whole) if "containers" in here]
    for path, pod in pods:
        seconds = pod.get(SETTING)
        if isinstance(seconds, int):
            place = Place(path, line_of_key(pod, SETTING))
            granted = float(min(seconds, LONGEST_GRACE))
            facts.limits.append(Limit("grace", granted, place, service="a pod", setting=SETTING, signal="SIGTERM"))
    return [environment for path, pod in pods for environment in _environments(path, pod, shared)]


def _maps(whole: Any) -> Iterator[CommentedMap]:
    """List all maps of a document, in its order, each once: a small file may hold very many aliases."""
    waiting, seen = [whole], set[int]()
    while waiting:
        here = waiting.pop()
        if id(here) in seen or not isinstance(here, (list, CommentedMap)):
            continue
        seen.add(id(here))
        if isinstance(here, CommentedMap):
            yield here
        waiting += reversed(list(here.values()) if isinstance(here, CommentedMap) else here)


def _config_map(path: str, here: CommentedMap) -> Iterator[tuple[str, dict[str, Value]]]:
    about, data = here.get("metadata"), here.get("data")
    named = isinstance(about, CommentedMap) and isinstance(about.get("name"), str)
    if here.get("kind") == "ConfigMap" and named and isinstance(data, CommentedMap):
        yield about["name"], {str(key): _value(str(key), path, data, key) for key in data}


def _environments(path: str, pod: CommentedMap, shared: Mapping[str, Mapping[str, Value]]) -> Iterator[Environment]:
    """Read `env` of each container, which lies over `envFrom`; of secrets only the names are known."""
    containers = pod["containers"]
    for container in containers if isinstance(containers, list) else ():
        if not isinstance(container, CommentedMap):
            continue
        values: dict[str, Value] = {}
        for source in _items(container.get("envFrom")):
            values |= shared.get(_name_of(source.get("configMapRef")), {})
        for item in _items(container.get("env")):
            name = str(item.get("name"))
            values[name] = _value(name, path, item, "value")
            origin = item.get("valueFrom")
            of = origin.get("configMapKeyRef") if isinstance(origin, CommentedMap) else None
            if isinstance(of, CommentedMap):
                values[name] = shared.get(_name_of(of), {}).get(str(of.get("key")), values[name])
        place = Place(path, line_of_key(container, "env"))
        yield Environment(str(container.get("name")), path, place, values)


def _items(told: Any) -> list[CommentedMap]:
    return [one for one in told if isinstance(one, CommentedMap)] if isinstance(told, list) else []


def _name_of(told: Any) -> str:
    return str(told.get("name")) if isinstance(told, CommentedMap) else ""


def _value(name: str, path: str, owner: CommentedMap, key: Any) -> Value:
    """Read a text; what is none, or refers to another variable, is unknown."""
    written = owner.get(key)
    known = isinstance(written, (str, int, float)) and "$(" not in str(written)
    text = str(written).lower() if isinstance(written, bool) else str(written)
    line = line_of_key(owner, key if key in owner else "name")
    return Value(name, text if known else UNKNOWN, Place(path, line), SettingSource.ENVIRONMENT)
