"""Puts the docs into the wheel as one text: `job-harness docs` prints it where there is no checkout."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DocumentationHook(BuildHookInterface):  # type: ignore[misc,type-arg,unused-ignore]
    """Called by hatchling."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the text and include it; an editable installation reads the pages themselves."""
        root = Path(self.root)
        if version == "editable" or not (root / "docs").is_dir():
            return
        spec = importlib.util.spec_from_file_location(
            "documentation", root / "harness/job_harness/doors/documentation.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._folder = tempfile.TemporaryDirectory()
        text = Path(self._folder.name, module.TEXT)
        text.write_text(module.whole(root), encoding="utf-8")
        build_data["force_include"][str(text)] = f"job_harness/doors/{module.TEXT}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leave nothing behind."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()
