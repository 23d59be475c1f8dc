"""Makes the tables of a system: its own migration, run once, or a file of SQL.

The command finds the database over the wire as the processes do, so that what it sends follows
virtual time. Must not know: processes at work, jobs.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import Final

import psycopg

from job_harness.errors import EnvironmentUnavailable
from job_harness.subjects.systems.database import SystemDatabase, on_virtual_time
from job_harness.subjects.systems.document import SystemFile, SystemFileError
from job_harness.subjects.systems.process import base_environment, resolved
from job_harness.subjects.systems.traffic import DatabaseSession
from job_harness.worlds.patience import Deadline, ready
from job_harness.worlds.peers.peer import end_orphans, marking_what_starts
from job_harness.worlds.postgres.absence import PatientConnection
from job_harness.worlds.postgres.virtual_clock import VirtualClockError
from job_harness.worlds.wire.database import extension_hint
from job_harness.worlds.wire.postgres_proxy import PasswordEndpoint

_TAIL: Final = 1500
_LARGEST: Final = 4 * 1024 * 1024


def migrate(file: SystemFile, database: SystemDatabase) -> None:
    """Make the tables in the template, and prove that all of it follows the clock.

    Raises SystemFileError where the migration fails or does not end, or where a part keeps to the
    machine's time.
    """
    if file.migrate:
        _by_command(file, database)
    else:
        _by_schema(file, database)
    try:
        database.prove()
    except VirtualClockError as error:
        raise SystemFileError(f"{file.place('database')}: {error.message}", hint=error.hint) from None


def _by_schema(file: SystemFile, database: SystemDatabase) -> None:
    try:
        with PatientConnection.to(database.template_url) as own:
            own.execute(on_virtual_time(file.schema).encode())
    except psycopg.Error as error:
        message = f"{file.place('database')}: the schema is refused: {str(error).splitlines()[0]}"
        raise SystemFileError(message, hint=extension_hint(error) or "Repair the SQL.") from None


def _by_command(file: SystemFile, database: SystemDatabase) -> None:
    place = file.place("database")
    command, _ = resolved(file.migrate, file, place=place)
    endpoint = PasswordEndpoint("migration", database.pool, kind=DatabaseSession, called=file.database)
    endpoint.database = database.template
    environment = {**base_environment(file), **endpoint.environment}
    try:
        with marking_what_starts():
            process = subprocess.Popen(
                command,
                cwd=file.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise EnvironmentUnavailable(f"{place}: {command[0]} cannot be started: {error}") from error
    try:
        code, said = _attended(process, endpoint, file.ready_seconds)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        end_orphans((f"DATABASE_URL={environment['DATABASE_URL']}",))  # What has left the group, as a daemon does.
        if process.stdout is not None:
            process.stdout.close()
        endpoint.end()
    if code is None:
        message = f"the migration did not end within {file.ready_seconds:g} real seconds"
    elif code:
        message = f"the migration ended with exit code {code}"
    elif endpoint.refused:
        message = f"the migration: {endpoint.refused[0]}"
    else:
        return
    tail = said.decode("utf-8", "replace")[-_TAIL:].strip()
    raise SystemFileError(
        f"{place}: {message}" + (f"; it last said:\n{tail}" if tail else ""),
        hint=f"Does it work by itself, with a DATABASE_URL? {' '.join(file.migrate)}",
    )


def _attended(process: subprocess.Popen[bytes], endpoint: PasswordEndpoint, seconds: float) -> tuple[int | None, bytes]:
    """Serve the connections of a command until it ends; None for its code: it did not."""
    assert process.stdout is not None
    deadline = Deadline(seconds)
    said = b""
    output: list[int] = [process.stdout.fileno()]
    while not deadline.passed:
        live = {session.descriptor: session for session in endpoint.sessions if not session.closed}
        heard, _ = ready([*output, endpoint.descriptor, *live], seconds=0.2)
        for descriptor in heard:
            if descriptor == endpoint.descriptor:
                endpoint.accept()
            elif descriptor in live:
                live[descriptor].arrive()
                live[descriptor].pass_on()
            else:
                data = os.read(descriptor, 1 << 16)
                said = (said + data)[-_LARGEST:]
                if not data:
                    output.clear()
        if not output and not live and process.poll() is not None:
            return process.returncode, said
        if process.poll() is not None and not heard:
            return process.returncode, said
    return None, said
