"""Whatever comes from outside and is shown: a processor's error, a database's row, an API's answer, a file's name.

It may hold what a terminal or a CI log obeys: escape sequences, carriage returns, text that turns
the direction of writing, lines that begin with a workflow command. Every output goes through here:
both standard streams, the screens of pytest, annotations, JUnit and SARIF. Must not know who shows
it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO, cast

_KEPT: Final = str.maketrans("", "", "\n\t")
_AT_LINE_START: Final = re.compile(r"^(\s*)::", re.MULTILINE)
"""Where GitHub reads a command; white space before it does not matter."""
_ANYWHERE: Final = re.compile(r"##(?=[a-zA-Z]*\[)")
"""Where GitHub's older form, Azure and TeamCity read one: `##[error]`, `##vso[...]`, `##teamcity[...]`."""


def printable(text: str) -> str:
    """Write what is not one visible sign as its escape, and what a CI log would obey so that it does not.

    New lines and tabs stay.
    """
    if not text.translate(_KEPT).isprintable():
        text = "".join(sign if sign.isprintable() or sign in "\n\t" else _escaped(sign) for sign in text)
    if "::" in text:
        text = _AT_LINE_START.sub(r"\1\\::", text)
    return _ANYWHERE.sub(r"#\\#", text) if "##" in text else text


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape", "backslashreplace").decode("ascii")


class _PrintableStream:
    """A standard stream on which only printable text arrives."""

    def __init__(self, stream: TextIO) -> None:
        self._as_it_is = self._own = stream

    def divert(self, other: TextIO) -> None:
        """Let text arrive on another stream from here on: this one is for a document."""
        self._as_it_is = as_it_is(other)

    def write(self, text: str) -> int:
        self._as_it_is.write(printable(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._as_it_is, name)


@contextmanager
def printable_streams() -> Iterator[None]:
    """Let only printable text arrive on both standard streams; signs that their encoding lacks are escaped as well."""
    before = sys.stdout, sys.stderr
    for stream in before:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = (cast(TextIO, _PrintableStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def as_it_is(stream: TextIO) -> TextIO:
    """Return the stream below, for what is meant to be obeyed: colours, annotations, a document that is data.

    The code that writes there has made each part printable, or has encoded it.
    """
    return stream._as_it_is if isinstance(stream, _PrintableStream) else stream


def keep_for_document() -> None:
    """Keep standard output for one document: what is printed goes to standard error from here on."""
    if isinstance(sys.stdout, _PrintableStream):
        sys.stdout.divert(sys.stderr)


def document_stream() -> TextIO:
    """Return standard output, for a document."""
    return sys.stdout._own if isinstance(sys.stdout, _PrintableStream) else sys.stdout
