"""Where our own code lies, and what a line of the user's is: a report names the user's line, never one of ours.

Must not import anything of ours: each module that follows a frame imports it.
"""

from __future__ import annotations

import linecache
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

_ROOM: Final = Path(__file__).resolve().parent
PACKAGE: Final = f"{_ROOM.parent}{os.sep}"
"""The folder of `job_harness`, wherever it is installed: in a wheel that is `site-packages` too."""
_REFERENCE: Final = find_spec("job_harness_reference")
FOLDERS: Final = (
    PACKAGE,
    *(f"{Path(folder).resolve()}{os.sep}" for folder in (_REFERENCE and _REFERENCE.submodule_search_locations) or ()),
)
"""That folder, and the one of the reference queue."""
CHECKOUT: Final = _ROOM.parents[2]
"""The root of the repository; in an installed wheel, a folder that holds nothing of ours."""


_BEGINS: Final = re.compile(r"\s*(?:@|def |async def )")
LONGEST_LINE: Final = 200
"""Characters of a line that are shown: what is built into one line may have thousands."""


class CodeLine(NamedTuple):
    """A line of a user's own code, at which something was done."""

    file: str
    """Its whole path."""
    line: int
    caller: CodeLine | None = None
    """The line of the user's that called what stands there; None where it is not known, or nothing of theirs did."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def relative(self) -> str:
        """The same as a person finds it: from the present folder on, where it lies below that."""
        return str(self).removeprefix(f"{os.getcwd()}{os.sep}")

    def around(self, beside: int = 2) -> tuple[int, tuple[str, ...]]:
        """Return what stands there, with as many lines before and after it, and the number of the first; maybe none.

        A function that begins there is shown with what follows alone.
        """
        written = linecache.getlines(self.file)
        begins = _BEGINS.match("".join(written[self.line - 1 : self.line])) is not None
        first = self.line if begins else max(1, self.line - beside)
        lines = written[first - 1 : self.line + beside * (1 + begins)]
        return first, tuple(line[:LONGEST_LINE].rstrip().expandtabs(4) for line in lines)
