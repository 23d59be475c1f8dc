"""How the name of a YAML file ends, and what it describes: told by the keys that begin its lines, without parsing it.

Everything that meets a file asks here, from pytest's collection to `check`. Must not know: what is
in it.
"""

from __future__ import annotations

import re
from typing import Final

SUFFIXES: Final = (".yaml", ".yml")
LARGEST: Final = 1_000_000
"""Bytes that a file may have."""
_KEY: Final = re.compile(rb"^(?:\xef\xbb\xbf)?([a-z_]+):", re.MULTILINE)


def describes_queue(text: bytes) -> bool:
    """Tell a queue file (docs/queue_files.md): it has `queue` and `claim`."""
    return _top_keys(text) >= {b"queue", b"claim"}


def is_queue_file(path: str) -> bool:
    """Tell a queue file by its path. False where it cannot be read."""
    return describes_queue(_start(path))


def is_system_file(path: str) -> bool:
    """Tell a file that describes a system: it has `processes`, or begins to. False where it cannot be read."""
    return not _top_keys(_start(path)).isdisjoint((b"system", b"processes"))


def _top_keys(text: bytes) -> set[bytes]:
    return set(_KEY.findall(text))


def _start(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(LARGEST)
    except OSError:
        return b""
