"""How long PM2 lets the processes of `ecosystem.config.js` take to stop."""

from __future__ import annotations

import re
from collections.abc import Iterator
from os.path import basename
from typing import Final

from tree_sitter import Node

from job_harness.review.check.facts import LONGEST_GRACE, Facts, Limit, Place, is_aside
from job_harness.review.check.typescript import Constants, Module, line_of, pairs_of, unquoted

USUAL_MILLISECONDS: Final = 1_600
"""What PM2 grants a process that does not say `kill_timeout`."""
_FILE: Final = re.compile(r"^(ecosystem|pm2)\b[\w.-]*\.[cm]?[jt]s$")
_WORKER: Final = re.compile(r"work|job|queue|consum|process|cron|schedul", re.IGNORECASE)
"""How the process of a worker is called; beside others only these are looked at."""


def is_ecosystem(path: str) -> bool:
    """Tell a file of PM2 by its name; one of a test or an example is none."""
    return _FILE.match(basename(path)) is not None and not is_aside(path)


def read_ecosystem(module: Module, constants: Constants, facts: Facts) -> None:
    """Note how long each worker may take to stop; the only process of a file is one whatever it is called."""
    found = list(_apps(module, constants))
    for name, script, place, seconds in found:
        if len(found) == 1 or _WORKER.search(f"{name} {script}"):
            about = f"{name or script} under PM2"
            facts.limits.append(Limit("grace", seconds, place, service=about, setting="kill_timeout", signal="SIGINT"))


def _apps(module: Module, constants: Constants) -> Iterator[tuple[str, str, Place, float]]:
    """List name, script, place and seconds of each process; a time that cannot be read counts as the longest."""
    for pair in module.each("pair"):
        key, value = pair.child_by_field_name("key"), pair.child_by_field_name("value")
        if key is None or value is None or unquoted(key) != "apps":
            continue
        listed, where = constants.node(value, module)
        for one in listed.named_children if listed.type == "array" else ():
            app, home = constants.node(one, where)
            told = {name: (node, value) for name, node, value in pairs_of(app)} if app.type == "object" else {}
            if "script" in told:
                name, script = (_text(told, word, constants, home) for word in ("name", "script"))
                node = told.get("kill_timeout", told["script"])[0]
                yield name, script, Place(home.path, line_of(node)), _seconds(told, constants, home)


def _text(told: dict[str, tuple[Node, Node]], key: str, constants: Constants, module: Module) -> str:
    value = constants.value(told[key][1], module) if key in told else None
    return value if isinstance(value, str) else ""


def _seconds(told: dict[str, tuple[Node, Node]], constants: Constants, module: Module) -> float:
    if "kill_timeout" not in told:
        return USUAL_MILLISECONDS / 1000
    value = constants.value(told["kill_timeout"][1], module)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return min(value / 1000, LONGEST_GRACE)
    return LONGEST_GRACE
