"""What a user says about a TypeScript processor: where it is, and what stands in for the world around it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from job_harness.errors import UsageError

SUFFIXES = (".ts", ".mts", ".cts", ".js", ".mjs", ".cjs")
OPTIONS = "NODE_OPTIONS"
INSPECT = "--inspect"
COVERAGE = "NODE_V8_COVERAGE"
"""The environment variable that lets Node write which code ran into a folder."""
DEEPEST = 100
"""How deep a callable may be nested."""
LONGEST_SHOWN = 200
"""Characters of a value that an error shows."""


@dataclass(frozen=True, slots=True)
class JavaScript:
    """Source text, TypeScript allowed: an expression where a value is meant, a module where a module is meant."""

    source: str


Value: TypeAlias = Any
"""JSON, a `JavaScript` expression, a Python callable (there an async function), or dicts and lists of these."""
Stub: TypeAlias = "Mapping[str, Value] | JavaScript | str | os.PathLike[str]"
"""What stands in for a module: its exports by name, its source, or the file to read instead."""
Fetch: TypeAlias = "Callable[..., Any] | Mapping[str, Any] | Literal['real'] | None"
"""What `fetch` returns: from a function of the URL and the request, answers by URL, the network, or nothing."""
Functions: TypeAlias = dict[str, Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class TypeScriptProcessor:
    """A processor of a TypeScript or JavaScript file, run unmodified in a Node peer.

    `target` is `path.ts#name`: an exported processor, or a function `register...()` without parameters that registers
    one. A relative path starts at `root`, by default the working directory. `globals` are put on `globalThis`; `stubs`
    stand in for modules, by the specifier that the import has (`@repo/mail`, `../mail`, `@repo/*`); `environment`
    changes `process.env`, None removes. Raises UsageError for what makes no sense.
    """

    target: str
    globals: Mapping[str, Value] = field(default_factory=dict)
    stubs: Mapping[str, Stub] = field(default_factory=dict)
    fetch: Fetch = None
    environment: Mapping[str, str | None] = field(default_factory=dict)
    root: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if not names_typescript(self.target):
            raise UsageError(f"{self.target!r} names no TypeScript processor", hint='Write "lib/processor.ts#name".')

    def __call__(self, job: Any) -> Any:
        """Refuse: it runs under a harness only."""
        raise UsageError(
            f"{self.target} runs in a Node process of a JobHarness",
            hint="Use job_harness.register(slug, it) or job_harness.perform_job(it, input).",
        )

    def at(self, root: str | os.PathLike[str]) -> TypeScriptProcessor:
        """Return the same processor with its relative paths starting at `root`."""
        return replace(self, root=root)

    @property
    def name(self) -> str:
        """The export."""
        return self.target.rpartition("#")[2]

    @property
    def file(self) -> Path:
        """The file. Raises UsageError if there is none."""
        root = Path.cwd() if self.root is None else Path(self.root)
        path = (root / self.target.rpartition("#")[0]).absolute()
        if not path.is_file():
            raise UsageError(
                f"the processor {self.target!r}: there is no file {path}",
                hint="A relative path starts at the working directory, or at TypeScriptProcessor(..., root=folder).",
            )
        return path

    def wire(self) -> tuple[dict[str, Any], Functions]:
        """Say it in the peer's words, and which functions it calls back, by name. Raises UsageError."""
        functions: Functions = {}
        globals_ = {name: _value(given, name, functions) for name, given in self.globals.items()}
        stubs = {name: self._stub(name, stub, functions) for name, stub in self.stubs.items()}
        fetch: str = "refuse"
        if self.fetch == "real":
            fetch = "real"
        elif isinstance(self.fetch, Mapping):
            fetch, functions["fetch"] = "call", _answers(self.fetch)
        elif callable(self.fetch):
            fetch, functions["fetch"] = "call", self.fetch
        elif self.fetch is not None:
            raise UsageError(f"fetch is {self.fetch!r}", hint='Give a function, a mapping of URLs, or "real".')
        return {"globals": globals_, "stubs": stubs, "fetch": fetch}, functions

    def process_environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return the peer's environment: that of this process, and what was changed.

        Of `NODE_OPTIONS` only what opens an inspector is left: a loader would take the place of ours. The folder of
        `NODE_V8_COVERAGE` is the one that it names here.
        """
        inspecting = " ".join(option for option in base.get(OPTIONS, "").split() if option.startswith(INSPECT))
        changed: dict[str, str | None] = {**base, OPTIONS: inspecting or None}
        if base.get(COVERAGE):
            changed[COVERAGE] = str(Path(base[COVERAGE]).absolute())
        changed |= self.environment
        return {name: value for name, value in changed.items() if value is not None}

    def _stub(self, name: str, stub: Stub, functions: Functions) -> dict[str, Any]:
        if isinstance(stub, JavaScript):
            return {"source": stub.source}
        if isinstance(stub, Mapping):
            return {"exports": {key: _value(given, f"{name}: {key}", functions) for key, given in stub.items()}}
        if isinstance(stub, str | os.PathLike):
            root = Path.cwd() if self.root is None else Path(self.root)
            path = (root / stub).absolute()
            if not path.is_file():
                raise UsageError(
                    f"the stub of {name!r}: there is no file {path}",
                    hint="A relative path starts at the working directory, or at the root= of TypeScriptProcessor.",
                )
            return {"file": str(path)}
        raise UsageError(
            f"the stub of {name!r} is {stub!r}", hint="Give its exports as a dict, a file, or JavaScript(source)."
        )


def names_typescript(named: object) -> bool:
    """Whether text is of the form `path.ts#name`."""
    if not isinstance(named, str):
        return False
    path, hash_, name = named.rpartition("#")
    return bool(hash_ and name and path.endswith(SUFFIXES))


def _value(given: Value, name: str, functions: Functions, around: tuple[int, ...] = ()) -> dict[str, Any]:
    """Say one value, and put what is called back under its path; `around` is what it is nested in, by identity."""
    if isinstance(given, JavaScript):
        return {"source": given.source}
    if callable(given):
        key = name
        while key in functions or key == "fetch":
            key += "'"
        functions[key] = given
        return {"call": key}
    try:
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        inside = (*around, id(given))
        if id(given) not in around and len(around) < DEEPEST:
            if isinstance(given, Mapping) and all(isinstance(key, str) for key in given):
                return {
                    "object": {key: _value(each, f"{name}.{key}", functions, inside) for key, each in given.items()}
                }
            if isinstance(given, list | tuple):
                return {"list": [_value(each, f"{name}[{at}]", functions, inside) for at, each in enumerate(given)]}
        raise UsageError(
            f"{name} is {_shortly(given)}, which cannot be handed to JavaScript: {error}",
            hint="Give JSON, a callable, JavaScript(source), or dicts and lists of these.",
        ) from None
    return {"json": given}


def _shortly(given: Value) -> str:
    try:
        text = repr(given)
    except RecursionError:
        text = f"nested too deeply ({type(given).__name__})"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _answers(answers: Mapping[str, Any]) -> Callable[[str, Any], Any]:
    def answer(url: str, request: Any) -> Any:
        for key in (f"{request['method']} {url}", url):
            if key in answers:
                found = answers[key]
                return found(url, request) if callable(found) else found
        known = ", ".join(answers) or "none"
        raise ConnectionError(f"nothing answers {request['method']} {url}; fetch= has {known}")

    return answer
