"""The process of a server of our own: as whom it runs, in which folder, and that it dies with its parent.

PostgreSQL refuses root, so root steps down in one of two ways. In a user namespace the server
believes itself an ordinary user while its files stay root's: nothing is chowned, and programs below
/root can be run. A default container forbids namespaces; there root becomes an unprivileged uid
that owns the data folder.

The folder is in memory if it fits there, else a temporary one, with a socket path that is short
enough.

The supervisor is a small shell that holds the reading end of a pipe. When the parent closes the
other end, or is gone for whatever reason (SIGKILL included), the shell ends its command and removes
the folder. Unlike a death signal this is not tied to the thread that forked, works on every POSIX
system, and cleans up files.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final, Literal

from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.private import weakness

# which server -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Installation:
    """A folder that holds `postgres` and `initdb`."""

    bin_directory: Path

    @property
    def postgres(self) -> Path:
        return self.bin_directory / "postgres"

    @property
    def initdb(self) -> Path:
        return self.bin_directory / "initdb"

    @property
    def complete(self) -> bool:
        """Whether both programs are there and may be executed."""
        return all(os.access(program, os.X_OK) for program in (self.postgres, self.initdb))

    @property
    def fingerprint(self) -> str:
        """Name this build of the server without starting it: path, size and time of the program."""
        program = self.postgres.resolve()
        status = program.stat()
        text = f"{program}:{status.st_size}:{status.st_mtime_ns}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


# as whom --------------------------------------------------------------------------------------------------------------


PrivilegeChoice = Literal["auto", "same-user", "user-namespace", "unprivileged-uid"]
TRIAL_SECONDS: Final = 20.0
"""Seconds of real time after which a program that should only tell its version counts as one that does not run."""


@dataclass(frozen=True, slots=True)
class Privilege:
    """How a child is started: words before its command, and the ids that it gets.

    With `ids_by_prefix` the words before the command change the ids, else the fork does.
    """

    name: PrivilegeChoice
    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None
    ids_by_prefix: bool = False

    def popen(self, command: Sequence[str], *, stdin: int, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
        """Start `command` under this privilege, in a session of its own so that Ctrl-C does not reach it."""
        return subprocess.Popen(
            [*self.prefix, *command],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd="/",
            user=None if self.ids_by_prefix else self.uid,
            group=None if self.ids_by_prefix else self.gid,
            extra_groups=None if self.ids_by_prefix or self.uid is None else [],
            start_new_session=True,
        )

    def own(self, path: Path) -> None:
        """Hand `path` to the user under whom the server runs."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def can_run(self, program: Path) -> bool:
        """Whether `program` can be executed under this privilege."""
        if self.uid is None and not self.prefix:
            return os.access(program, os.X_OK)
        try:
            child = self.popen(
                [str(program), "--version"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            return False
        try:
            return child.wait(timeout=TRIAL_SECONDS) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            child.kill()
            child.wait()


def select_privilege(choice: PrivilegeChoice, program: Path, *, euid: int | None = None) -> Privilege:
    """Decide as whom `program` (the server) runs; `auto` takes the first way that works.

    Raises EnvironmentUnavailable, naming each way and why it does not work here.
    """
    effective = os.geteuid() if euid is None else euid
    if choice == "auto" and effective != 0 and _has_name(effective):
        return Privilege("same-user")
    wanted: tuple[PrivilegeChoice, ...] = ("user-namespace", "unprivileged-uid") if choice == "auto" else (choice,)
    reasons = []
    for name in wanted:
        privilege, reason = _attempt(name, program, effective)
        if privilege is not None:
            return privilege
        reasons.append(f"{name}: {reason}")
    raise EnvironmentUnavailable(
        f"PostgreSQL cannot be started as uid {effective}: " + "; ".join(reasons),
        hint="Run the tests as an ordinary user, or set JOB_HARNESS_DSN to a running database.",
    )


def _attempt(name: PrivilegeChoice, program: Path, euid: int) -> tuple[Privilege | None, str]:
    if name == "same-user":
        return (None, "PostgreSQL refuses root") if euid == 0 else (Privilege("same-user"), "")
    if name == "user-namespace":
        return _namespace(program)
    return _unprivileged(program, euid)


def _namespace(program: Path) -> tuple[Privilege | None, str]:
    unshare = shutil.which("unshare")
    if unshare is None:
        return None, "the program unshare is not installed"
    uid, gid = _nobody()
    prefix = (unshare, "--user", f"--map-user={uid}", f"--map-group={gid}", "--")
    privilege = Privilege("user-namespace", prefix)
    if not privilege.can_run(program):
        harmless = shutil.which("true")
        if harmless is not None and privilege.can_run(Path(harmless)):
            return None, f"{program} does not run"
        return None, "user namespaces are forbidden here"
    return privilege, ""


def _unprivileged(program: Path, euid: int) -> tuple[Privilege | None, str]:
    if euid != 0:
        return None, "only root can become another user"
    uid, gid = _nobody()
    privilege = Privilege("unprivileged-uid", uid=uid, gid=gid)
    if privilege.can_run(program):
        return privilege, ""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return None, f"uid {uid} cannot reach {program} and the program setpriv is not installed"
    # A wheel below /root cannot be reached by any other user. One ambient capability lets the server pass the
    # folders; it is still no root.
    ids = (f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
    # access(2) ignores capabilities unless the secure bit says that ids do not change them.
    able = ("--securebits=+no_setuid_fixup", "--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    reaching = Privilege("unprivileged-uid", (setpriv, *ids, *able, "--"), uid, gid, ids_by_prefix=True)
    if not reaching.can_run(program):
        return None, f"uid {uid} cannot run {program}"
    return reaching, ""


def _has_name(uid: int) -> bool:
    """Whether the uid has an account: initdb refuses to work for one without."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _nobody() -> tuple[int, int]:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return 65534, 65534
    return entry.pw_uid, entry.pw_gid


# in which folder ------------------------------------------------------------------------------------------------------


PREFIX = "job-harness-"
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_LIMIT = 103 if sys.platform == "darwin" else 107
"""Bytes that the kernel accepts in the name of a Unix socket."""

HEADROOM_BYTES = 256 * 1024 * 1024
"""What must stay free beside the cluster: some thirty databases. The 64 MB of a container are too little."""


def default_roots() -> tuple[Path, ...]:
    """Folders to try, fastest first."""
    roots = [Path("/dev/shm"), Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    return tuple(dict.fromkeys(roots))


def places(roots: Sequence[Path], *, needed_bytes: int, privilege: Privilege, passed_over: list[str]) -> Iterator[Path]:
    """Yield a new folder of the server's own on each root that has room, until the caller has enough;
    from then on the folder is the caller's to remove.

    Each root that is left out adds its reason to `passed_over`. Raises EnvironmentUnavailable at
    the end.
    """
    for root in roots:
        reason = _unfit(root, needed_bytes + HEADROOM_BYTES, privilege)
        if reason:
            passed_over.append(f"{root} {reason}")
            continue
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        except OSError as error:
            passed_over.append(f"{root} refuses a folder ({error.strerror})")
            continue
        try:
            privilege.own(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        yield folder
    raise EnvironmentUnavailable(
        "no place for a PostgreSQL cluster: " + "; ".join(passed_over),
        hint="Set TMPDIR to a folder with a short path and 300 MB of room, or JOB_HARNESS_DSN to a database.",
    )


def _unfit(root: Path, needed_bytes: int, privilege: Privilege) -> str:
    if not root.is_dir():
        return "does not exist"
    if why := weakness(root):
        return f"is not safe ({why})"
    longest = os.fsencode(root / (PREFIX + "x" * 8) / SOCKET_NAME)
    if len(longest) > SOCKET_PATH_LIMIT:
        return f"is too long a path for a socket ({len(longest)} of {SOCKET_PATH_LIMIT} bytes)"
    if privilege.uid is not None and not _reachable(root):
        return f"cannot be entered by uid {privilege.uid}"
    status = os.statvfs(root)
    free = status.f_bavail * status.f_frsize
    if free < needed_bytes:
        return f"has {free // 2**20} MB free of {needed_bytes // 2**20} MB needed"
    return ""


def _reachable(root: Path) -> bool:
    """Whether everybody may pass every folder down to `root`."""
    resolved = root.resolve()
    return all(folder.stat().st_mode & 0o001 for folder in (resolved, *resolved.parents))


# until when -----------------------------------------------------------------------------------------------------------


# $1 is the folder, $2 the signal that ends the command gently, the rest the command. The command finds at
# descriptor 4 what the parent gave as standard output. The signal is repeated: a command that is still
# unpacking ignores it, as shells make background commands do.
_SCRIPT = r"""
exec 3<&0 4<&1 </dev/null >/dev/null
folder=$1; gently=$2; shift 2
"$@" 3<&- & child=$!
exec 4<&-
(
    read -r _ <&3
    rounds=0
    while [ "$((rounds += 1))" -lt 70 ]; do
        if [ "$rounds" -lt 20 ]; then kill -s "$gently" "$child" || exit; fi
        kill -s 0 "$child" || exit
        sleep 0.1
    done
    kill -s KILL "$child"
) 2>/dev/null & watcher=$!
exec 3<&-
trap 'kill -s "$gently" "$child" 2>/dev/null' TERM INT HUP
wait "$child"; status=$?
while kill -s 0 "$child" 2>/dev/null; do wait "$child"; status=$?; done
kill "$watcher" 2>/dev/null
rm -rf "$folder"
exit "$status"
"""

_alive: weakref.WeakSet[Supervised] = weakref.WeakSet()


class Supervised:
    """A command at work in a folder of its own; both end with `stop()` or with this process."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        privilege: Privilege,
        channel: IO[bytes] | None = None,
        gently: str = "TERM",
    ) -> None:
        """Start `command`. It finds `channel` (a file to read or to write) at descriptor 4."""
        self.folder = folder
        self._owner = os.getpid()
        self._log = TemporaryFile(prefix="job-harness-log-")  # noqa: SIM115 - closed by stop(); never has a name
        reading, self._lifeline = os.pipe()
        try:
            self._process = privilege.popen(
                ["/bin/sh", "-c", _SCRIPT, "supervisor", str(folder), gently, *command],
                stdin=reading,
                stdout=subprocess.DEVNULL if channel is None else channel.fileno(),
                stderr=self._log.fileno(),
            )
        except BaseException:
            os.close(self._lifeline)
            self._log.close()
            raise
        finally:
            os.close(reading)
        _remember(self)

    @property
    def ended(self) -> bool:
        """Whether the command has ended by itself."""
        return self._process.poll() is not None

    def wait(self, timeout_seconds: float) -> int:
        """Wait for the command; its exit status. Raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout=timeout_seconds)

    def log_tail(self, lines: int = 12) -> str:
        """The end of what the command wrote to standard error."""
        if self._log.closed:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), 8192, max(0, size - 8192)).decode(errors="replace")
        return "\n".join(text.strip().splitlines()[-lines:])

    def stop(self) -> None:
        """End the command and remove its folder. Harmless when repeated, and in a forked child."""
        if os.getpid() != self._owner:
            self.forget()
            return
        self.forget()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def forget(self) -> None:
        """Let go of the pipe. In a forked child this leaves the parent's command alone."""
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)
        _alive.discard(self)


def _remember(supervised: Supervised) -> None:
    """Have forked children let go of the pipe, or a stray one would keep the server alive."""
    if not getattr(_remember, "registered", False):
        _remember.registered = True  # type: ignore[attr-defined]
        os.register_at_fork(after_in_child=_forget_all)
    _alive.add(supervised)


def _forget_all() -> None:
    for supervised in list(_alive):
        supervised.forget()
