"""What of the npm package needs no npm: its version, its files, that nothing is installed with it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness import __version__
from harness.errors import EnvironmentUnavailable
from harness.foreign import find_node
from tests.docs import pages

FOLDER = pages.ROOT / "clients/node"
PACKAGE: dict[str, Any] = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))


def files_of(exported: Any) -> list[str]:
    if isinstance(exported, str):
        return [exported]
    return [file for each in exported.values() for file in files_of(each)]


def test_wheel_and_npm_package_are_of_one_version() -> None:
    assert PACKAGE["version"] == __version__


def test_nothing_is_installed_with_it_and_every_file_that_it_names_is_there() -> None:
    assert "dependencies" not in PACKAGE
    assert "scripts" not in PACKAGE or list(PACKAGE["scripts"]) == ["prepack"]
    named = [*files_of(PACKAGE["exports"]), PACKAGE["main"], PACKAGE["types"], *PACKAGE["bin"].values()]
    assert [file for file in named if not (FOLDER / file).is_file()] == []
    packed = {Path(file).parts[0] for file in named} - {"package.json"}
    assert packed <= set(PACKAGE["files"])


def test_what_it_shares_with_the_harness_is_respelled_for_jest() -> None:
    try:
        node = find_node()
    except EnvironmentUnavailable as unavailable:
        pytest.skip(" ".join(str(unavailable).split()))
    script = """
    import { commonJs, SHARED } from "./prepack.mjs";
    import fs from "node:fs";
    import path from "node:path";
    import vm from "node:vm";
    import { createRequire } from "node:module";
    for (const file of SHARED) {
      const module = { exports: {} };
      const source = commonJs(fs.readFileSync(path.join("../..", file), "utf8"));
      vm.compileFunction(source, ["module", "require"])(module, createRequire(import.meta.url));
      console.log(Object.keys(module.exports).join(" "));
    }
    """
    done = subprocess.run(
        [node.path, "--input-type=module", "-e", script],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    clock, values = map(str.split, done.stdout.splitlines())
    assert {"Clock", "timersOf", "virtualDate", "seeded"} <= set(clock)
    assert {"toJson", "lenient", "described"} <= set(values)
