"""What a run is asked to run on, as a value: parsed once where a person wrote it, printed once where a person reads it.

`memory`, `postgres --sessions` (reports: `postgres-gated`), `pgboss@10.4.2`, `memory+stale-complete`, `queue.yaml`,
`my_app.py:MyApp@pgboss@12+fencing`. Must not know which engines there are, nor how any is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from job_harness.core import yaml_files
from job_harness.errors import UsageError, did_you_mean

SESSIONS_SUFFIX: Final = "-gated"
"""Behind the place, in reports and file names, where actors have sessions. No engine's own name ends so."""
OPTION: Final = "--sessions"
_FORM: Final = re.compile(r"(?P<place>(?:.*:)?[^@+]*)(?:@(?P<at>[^+]*))?(?:\+(?P<plus>.*))?", re.DOTALL)
"""Where it is, and what follows: a version or a store, a wrong queue or safeguards."""


@dataclass(frozen=True, slots=True)
class Target:
    """An engine by name, a queue or system in a file, or a user's own class or factory."""

    place: str
    """`postgres`, `queue.yaml`, `module:factory` or `path/to/file.py:factory`."""
    version: str = ""
    """The release of an engine that is another project's queue."""
    store: str = ""
    """Where the two tables of an application are, beside memory: `pgboss`, `pgboss@10.4.2`."""
    wrong_queue: str = ""
    """The mistake planted in an engine."""
    safeguards: tuple[str, ...] = ()
    """What of an application is switched on that it declares, in order."""
    sessions: bool = False
    """Whether each actor has a database session of its own."""

    @classmethod
    def parse(cls, text: str, *, sessions: bool = False) -> Target:
        """Read what a person wrote; `sessions` is the option of a whole command.

        Raises UsageError for an option that is none, and for an `@` or a `+` with nothing behind
        it.
        """
        name, _, written = text.strip().partition(" --")
        options = [f"--{option}" for option in written.split(" --")] if written else []
        if wrong := [option for option in options if option != OPTION]:
            raise UsageError(
                f"{name} has no option {wrong[0]!r}{did_you_mean(wrong[0], [OPTION])}",
                hint=f"An engine has one option, {OPTION}, and it is written after its name.",
            )
        form = _FORM.fullmatch(name)
        assert form is not None, "the form takes any text"
        place, at, plus = form.group("place", "at", "plus")
        plain = place.removesuffix(SESSIONS_SUFFIX)
        read = cls(plain, sessions=sessions or bool(options) or plain != place)
        if at == "" and not read.is_own:
            raise UsageError(f"{place}@ names no version", hint="Write it behind the @, as in pgboss@10.4.2.")
        if read.is_own:
            return replace(read, store=at or "", safeguards=tuple((plus or "").split("+")) if plus else ())
        if plus == "":
            raise UsageError(f"{name} names no wrong queue", hint="docs/wrong_queues.md lists them.")
        return replace(read, version=at or "", wrong_queue=plus or "")

    @property
    def is_file(self) -> bool:
        """Whether this is a queue or a system in a YAML file, by its ending."""
        return self.place.endswith(yaml_files.SUFFIXES)

    @property
    def is_system(self) -> bool:
        """Whether this is a system in a file, by what is written there."""
        return self.is_file and yaml_files.is_system_file(self.place)

    @property
    def is_own(self) -> bool:
        """Whether this is the user's own queue or application, and no engine by name."""
        return ":" in self.place or self.is_file

    @property
    def file(self) -> str:
        """The file that it is in; empty where it is in none."""
        where = self.place if self.is_file else self.place.rpartition(":")[0]
        return where if where.endswith((".py", *yaml_files.SUFFIXES)) else ""

    @property
    def right(self) -> Target:
        """What it is without its mistake and its safeguards, on whose server it stands."""
        return replace(self, wrong_queue="", safeguards=())

    @property
    def weaker(self) -> Target:
        """What it is without the last of its safeguards."""
        return replace(self, safeguards=self.safeguards[:-1])

    @property
    def gated(self) -> Target:
        """What it is where each actor has a session."""
        return replace(self, sessions=True)

    def with_safeguard(self, name: str) -> Target:
        """Return it with one more safeguard switched on."""
        return replace(self, safeguards=(*self.safeguards, name))

    @property
    def plain(self) -> str:
        """The name without sessions, as the option of a command takes it."""
        return str(replace(self, sessions=False))

    @property
    def words(self) -> list[str]:
        """What a command line says for it: its name, and `--sessions`."""
        return [self.plain, *([OPTION] if self.sessions else [])]

    @property
    def sentence(self) -> str:
        """The name as a sentence says it: `queue.yaml with sessions`, but `pgboss-gated@10.4.2`."""
        return f"{self.plain} with sessions" if self.sessions and self.is_file else str(self)

    def __str__(self) -> str:
        """Return the name that reports and file names have."""
        return "".join(self._parts())

    def _parts(self) -> Iterator[str]:
        yield self.place
        if self.sessions:
            yield SESSIONS_SUFFIX
        if self.version or self.store:
            yield f"@{self.version or self.store}"
        yield from (f"+{name}" for name in (self.wrong_queue, *self.safeguards) if name)

    def located(self, folder: Path) -> Target:
        """Return it with its file as it is found from here: in `folder`, or in the nearest folder above that has it.

        Raises UsageError where no folder has it.
        """
        if not self.file or Path(self.file).is_absolute():
            return self
        start = folder.resolve()
        for above in (start, *start.parents):
            found = above / self.file
            if found.is_file():
                here = Path.cwd()
                shown = found.relative_to(here) if found.is_relative_to(here) else found
                return replace(self, place=f"{shown}{self.place.removeprefix(self.file)}")
        raise UsageError(
            f"application: there is no file {self.file} in {start}, nor in any folder above it",
            hint="The path is relative to the folder of the scenario, or to one above it.",
        )
