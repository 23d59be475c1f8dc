"""What the house measures: statements by room, and the shapes that are kept few. `python benchmarks/size.py` prints it.

A statement is one of Python's (`ast.stmt`) that is no docstring. A class counts with the methods and attributes that it
inherits from classes of our own; records (dataclasses, pydantic models, named tuples, enumerations, protocols) do not
count. A callback attribute is one whose annotation is a `Callable` and which another object assigns from outside.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCES: Final = (ROOT / "harness/job_harness", ROOT / "reference_impl/job_harness_reference")
RECORDS: Final = {
    "NamedTuple",
    "BaseModel",
    "Protocol",
    "StrEnum",
    "Enum",
    "IntEnum",
    "TypedDict",
    "BaseSettings",
    "Exception",
}
DIALECT: Final = re.compile(
    r"_*(told|settle|settled|spoken|opened_as|explained|mistaken|said|shown|named|asked|listed|judged|noted|seen)$"
)
"""Participles that name functions: a reader cannot tell a query from a command."""
MOST_METHODS, MOST_ATTRIBUTES, LONG_LINE = 40, 20, 100
PLAYS: Final = re.compile(
    r"Session|begin_in_child|run_for_good|taken|_?(play|played|sample|one|again|expand|order|try)"
)
"""What plays a run, or waits for one, is called so in the room `search`."""
NO_SEARCH: Final = {
    "search/as_scenario.py _candidates": "the undisturbed run of each arrangement",
    "search/cases.py run": "each case that was asked for",
    "search/counterfactual.py trials": "each change that may fix a finding, once",
    "search/explored/campaign.py _vary_keys": "once for each kind of side effect",
    "search/explored/played.py _play_on": "what another process asks for",
    "search/explored/played.py _stand_by": "what another process asks for",
    "search/process_pool.py _work": "what another process asks for",
    "search/sampling.py play": "a stretch that was handed out",
    "search/shrink.py": "makes smaller what was found",
    "search/state_machine.py": "verbs of one run, chosen by Hypothesis",
}
"""Loops that play runs and do not search: they choose none, and end where a list ends or nothing gets smaller."""


class Module(NamedTuple):
    """One file."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The room it stands in."""
        source = next(source for source in SOURCES if self.path.is_relative_to(source))
        parts = self.path.relative_to(source).parts
        return source.name if source.name.endswith("_reference") else parts[0] if len(parts) > 1 else "(loose)"


def modules() -> list[Module]:
    """Read every file of both packages."""
    found = []
    for source in SOURCES:
        for path in sorted(source.rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            found.append(Module(path, text, ast.parse(text)))
    return found


def statements(tree: ast.AST) -> int:
    """Count statements without docstrings (and the strings that describe an attribute)."""
    return sum(
        isinstance(node, ast.stmt)
        and not (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        )
        for node in ast.walk(tree)
    )


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function."""
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


class Shape(NamedTuple):
    """What a class has of its own."""

    bases: tuple[str, ...]
    methods: frozenset[str]
    attributes: frozenset[str]
    record: bool


def shape_of(node: ast.ClassDef) -> Shape:
    """Read the methods and attributes of one class."""
    bases = tuple(ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases)
    marks = " ".join(ast.unparse(mark) for mark in node.decorator_list)
    methods = {child.name for child in node.body if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)}
    attributes = {
        target.attr
        for child in ast.walk(node)
        if isinstance(child, ast.Assign | ast.AnnAssign | ast.AugAssign)
        for target in ast.walk(child)
        if isinstance(target, ast.Attribute)
        and isinstance(target.ctx, ast.Store)
        and ast.unparse(target.value) == "self"
    }
    record = "dataclass" in marks or any(base in RECORDS or base.endswith("Error") for base in bases)
    return Shape(bases, frozenset(methods), frozenset(attributes), record)


def wide_classes(found: list[Module]) -> dict[str, tuple[int, int]]:
    """List the classes with too many methods or attributes, inherited ones of our own included."""
    shapes = {
        node.name: shape_of(node)
        for module in found
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    }

    def whole(name: str) -> tuple[frozenset[str], frozenset[str]]:
        shape = shapes[name]
        methods, attributes = shape.methods, shape.attributes
        for base in shape.bases:
            if base in shapes and base != name:
                more, further = whole(base)
                methods, attributes = methods | more, attributes | further
        return methods, attributes

    sizes = {name: tuple(map(len, whole(name))) for name, shape in shapes.items() if not shape.record}
    return {
        name: (size[0], size[1])
        for name, size in sorted(sizes.items())
        if size[0] > MOST_METHODS or size[1] > MOST_ATTRIBUTES
    }


def callback_attributes(found: list[Module]) -> list[str]:
    """List the attributes of type Callable that code outside their class assigns: `run.on_statement = ...`."""
    declared: dict[str, str] = {}
    outside: Counter[str] = Counter()
    for module in found:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.AnnAssign) and "Callable[" in ast.unparse(node.annotation):
                target = node.target
                if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                    declared[target.attr] = f"{module.path.relative_to(ROOT)}:{node.lineno}"
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Attribute) and ast.unparse(target.value) != "self":
                        outside[target.attr] += 1
    return sorted(f"{name} ({place})" for name, place in declared.items() if outside[name])


def called(node: ast.AST) -> Iterator[str]:
    """Yield the names of what is called in here."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call):
            yield ast.unparse(call.func).rpartition(".")[2]


def plays_in_a_loop(function: ast.AST) -> bool:
    """Whether a function plays runs in a loop of its own."""
    bodies = [
        part
        for node in ast.walk(function)
        if isinstance(node, ast.For | ast.While | ast.GeneratorExp)
        for part in ([node.elt] if isinstance(node, ast.GeneratorExp) else node.body)
    ]
    return any(PLAYS.fullmatch(name) for part in bodies for name in called(part))


def search_loops(found: list[Module]) -> list[str]:
    """List the loops that choose a run, play it and look whether to go on: whatever they are called."""
    inside = [
        (f"{module.path.relative_to(SOURCES[0])} {function.name}", function)
        for module in found
        if module.room == "search" and "wrong_queues" not in module.path.parts
        for function in functions(module.tree)
    ]
    return [
        place
        for place, function in inside
        if place not in NO_SEARCH and place.partition(" ")[0] not in NO_SEARCH and plays_in_a_loop(function)
    ]


GENERATED = re.compile(r"<!-- generated: [\w-]+ -->.*?<!-- end -->", re.DOTALL)


def written_by_hand() -> int:
    """Count the lines of README and docs that no script writes."""
    pages = [*ROOT.glob("README.md"), *(page for page in ROOT.glob("docs/**/*.md") if page.parent.name != "findings")]
    return sum(len(GENERATED.sub("", page.read_text(encoding="utf-8")).splitlines()) for page in pages)


def report(found: list[Module]) -> Iterator[str]:
    """Yield the lines of the report."""
    rooms: Counter[str] = Counter()
    for module in found:
        rooms[module.room] += statements(module.tree)
    yield f"statements {sum(rooms.values())}: " + ", ".join(f"{room} {count}" for room, count in rooms.most_common())
    every = [function for module in found for function in functions(module.tree)]
    public = [function for function in every if not function.name.startswith("_")]
    with_docs = sum(ast.get_docstring(function) is not None for function in public)
    yield f"public functions with a docstring: {100 * with_docs / len(public):.1f} % of {len(public)}"
    lines = [line for module in found for line in module.text.splitlines() if line.strip()]
    long = 100 * sum(len(line) > LONG_LINE for line in lines) / len(lines)
    yield f"lines above {LONG_LINE} columns: {long:.1f} % of {len(lines)}"
    comments = sum(line.lstrip().startswith("#") for line in lines)
    yield f"comment lines: {comments} ({100 * comments / len(lines):.1f} %)"
    yield f"lines of docs written by hand: {written_by_hand()} (at most 9 000)"
    dialect = Counter(function.name for function in every if DIALECT.match(function.name))
    yield f"functions named by a participle: {sum(dialect.values())}: {dict(dialect.most_common())}"
    callbacks = callback_attributes(found)
    yield f"callback attributes assigned from outside: {len(callbacks)}: {', '.join(callbacks)}"
    loops = search_loops(found)
    yield f"search loops: {len(loops)}: {', '.join(loops)}"
    wide = wide_classes(found)
    yield f"classes above {MOST_METHODS} methods or {MOST_ATTRIBUTES} attributes: {len(wide)}"
    yield from (f"  {name}: {methods} methods, {attributes} attributes" for name, (methods, attributes) in wide.items())


if __name__ == "__main__":
    sys.stdout.write("\n".join(report(modules())) + "\n")
