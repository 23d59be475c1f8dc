"""A process of DBOS: launched in each life of a worker, on a database that outlives it, its steps declared as facts.

It leans on what DBOS keeps for itself, checked on 3.4: the instance of the process, which a dead
worker leaves behind, and the two verbs by which a step is looked up and stored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from job_harness.errors import UsageError
from job_harness.subjects.processors.delivery import Steps
from job_harness.subjects.processors.length import Length

POLLS_LATE_BY: Final = "1m"
"""Its threads look for work each second. While nothing else happens, that may wait: a sleep or a timeout does not."""
_SQLITE: Final = "sqlite:///"


@dataclass(slots=True)
class ProcessStart:
    """What a process of DBOS does when it starts: hand it to `on_start`."""

    config: Any
    before: Callable[[], object] | None
    polls_late_by: Length = POLLS_LATE_BY
    _databases: list[Any] = field(default_factory=list)
    """Of each of its lives."""

    def __call__(self) -> None:
        """Launch it."""
        from dbos import DBOS, _dbos

        _forget_instance()
        if self.before is not None:
            self.before()
        DBOS(config=self.config)
        create = _dbos.SystemDatabase.create

        def created(*arguments: Any, **options: Any) -> Any:
            self._databases.append(create(*arguments, **options))
            return _declare_steps(self._databases[-1])

        _dbos.SystemDatabase.create = created
        try:
            DBOS.launch()
        finally:
            _dbos.SystemDatabase.create = create

    def end(self) -> None:
        """Close what its lives had open, once none of their threads is left: the next run may be played in here."""
        while self._databases:
            self._databases.pop().engine.dispose()
        _forget_instance()


def _forget_instance() -> None:
    """Let this process have no instance of DBOS, like a new one: that of a worker that died is still here."""
    from dbos import _dbos

    _dbos._dbos_global_instance = _dbos._get_or_create_dbos_registry().dbos = None


def dbos_process(config: Any, *, before: Callable[[], object] | None = None) -> ProcessStart:
    """Return what a process of DBOS does when it starts, given its config; its database is migrated now.

    `before` is called before DBOS is launched: there your process makes its data sources, for one.
    A resumed step that DBOS has stored is not run again: each step is declared, and `steps_kept` judges it. Raises
    UsageError where the config names no database.
    """
    url = dict(config).get("system_database_url")
    if not url:
        raise UsageError(
            "dbos_process: the config names no system_database_url",
            hint='For a test: {"system_database_url": f"sqlite:///{tmp_path}/dbos.sqlite"}.',
        )
    logging.getLogger("dbos").setLevel(logging.ERROR)
    _migrate(url)
    # On PostgreSQL it polls: a thread in LISTEN waits in real time, and virtual time would stand still for it.
    started = {"run_migrations": False, "log_level": "ERROR", "use_listen_notify": False, **config}
    return ProcessStart(started, before)


def _migrate(url: str) -> None:
    """Make the tables of DBOS; in a new file of SQLite by a copy, since each run of an explored test has one."""
    from dbos import DBOS

    file = Path(url.removeprefix(_SQLITE))
    if not url.startswith(_SQLITE) or file.exists():
        DBOS.migrate(url)
        return
    file.write_bytes(_migrated())


@cache
def _migrated() -> bytes:
    from dbos import DBOS

    with TemporaryDirectory() as folder:
        file = Path(folder, "dbos.sqlite")
        DBOS.migrate(f"{_SQLITE}{file}")
        return file.read_bytes()


def _declare_steps(database: Any) -> Any:
    """Let a system database say which steps it is asked for, and which it stores."""
    from sqlalchemy.event import listen

    look, store = database.check_operation_execution, database.record_operation_result

    def look_up(run: str, number: int, name: str, **options: Any) -> Any:
        found = look(run, number, name, **options)
        (Steps(run).begin if found is None else Steps(run).record)(name, number=number)
        return found

    def record(result: Any, **options: Any) -> None:
        run, name, number = Steps(result["workflow_uuid"]), result["function_name"], result["function_id"]
        run.finish(name, number=number)
        store(result, **options)
        run.record(name, number=number)

    database.check_operation_execution, database.record_operation_result = look_up, record
    if database.engine.dialect.name == "sqlite":  # It would wait 30 real seconds for a lock; DBOS itself tries again.
        listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=0"))
    return database
