"""As whom the server runs. PostgreSQL refuses root, so root steps down: in one of two ways.

In a *user namespace* the server believes itself an ordinary user while its files stay root's: nothing is
chowned and programs below /root can be run. A default container forbids namespaces; there root becomes an
*unprivileged uid* that owns the data folder.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import EnvironmentUnavailable

PrivilegeChoice = Literal["auto", "same-user", "user-namespace", "unprivileged-uid"]


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
        return child.wait(timeout=20) == 0


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
    # A wheel below /root cannot be reached by anybody else. One ambient capability lets the server pass the
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
