"""Files that a command writes: checked before anything runs, whole or not there."""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.cli import STANDARD_OUTPUT
from harness.errors import EnvironmentUnavailable, UsageError
from harness.printable import document_stream


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A place to write to."""

    path: Path
    is_standard: bool = False
    """Whether it is standard output."""

    @classmethod
    def checked(cls, name: str, option: str) -> OutputFile:
        """Answer the file; `-` is standard output.

        Raises UsageError where it cannot be written.
        """
        if name == STANDARD_OUTPUT:
            return cls(Path("standard output"), is_standard=True)
        path = Path(os.path.realpath(name))
        if not name or path.is_dir():
            raise UsageError(f"{option} {name}: this is a folder", hint="Name a file.")
        if path.exists() and not os.access(path, os.W_OK):
            raise UsageError(f"{option} {name}: may not be written", hint="Name another file, or change its rights.")
        if not path.parent.is_dir():
            raise UsageError(f"{option} {name}: there is no folder {path.parent}", hint="Make the folder first.")
        if not path.exists() and not os.access(path.parent, os.W_OK | os.X_OK):
            raise UsageError(f"{option} {name}: {path.parent} may not be written to", hint="Name another folder.")
        return cls(path)

    def write(self, text: str) -> None:
        """Write the whole text, or nothing.

        Raises EnvironmentUnavailable where the disk refuses.
        """
        data = text.encode("utf-8", "backslashreplace")
        try:
            if self.is_standard:
                document_stream().write(data.decode())
                document_stream().flush()
            elif self.path.exists() and not stat.S_ISREG(self.path.stat().st_mode):
                self.path.write_bytes(data)
            else:
                self._replace(data)
        except OSError as error:
            raise EnvironmentUnavailable(f"{self.path}: cannot be written: {error.strerror}") from error

    def _replace(self, data: bytes) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            mode = self.path.stat().st_mode & 0o777 if self.path.exists() else 0o666 & ~_umask()
            os.chmod(temporary, mode)
            os.replace(temporary, self.path)
        except BaseException:
            os.unlink(temporary)
            raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
