"""A PostgreSQL for tests: provision it, reset it, and let its `now()` follow a virtual clock.

>>> from job_harness.worlds.postgres import provision
>>> with provision() as cluster:                       # doctest: +SKIP
...     print(cluster.provenance)
...     url = cluster.create_database()

- `provision(dsn=None, provider="auto")` returns a `Cluster`, with its `Provenance`.
- `Cluster.create_database(name, template=...)`, `drop_database`, `url`, `stop`.
- `Resetter(cluster, database)` empties a database between tests, or clones it anew after DDL.
- `virtual_clock.install / set_now / advance / check` on a template database.

Under pytest-xdist let the controller provision, and every worker call `provision(cluster.url())` and then
`create_database()`: one server with a database per worker is ready sooner than a server per worker (on two
cores, four workers: 0.61 s against 0.76 s), and the worker's databases go when it ends or is killed.

Importing this package imports nothing else; the names are looked up when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from job_harness.worlds.postgres import virtual_clock
    from job_harness.worlds.postgres.cluster import Cluster as Cluster
    from job_harness.worlds.postgres.cluster import PassedOver as PassedOver
    from job_harness.worlds.postgres.cluster import Provenance as Provenance
    from job_harness.worlds.postgres.provider import provision as provision
    from job_harness.worlds.postgres.resetter import KeptDatabase as KeptDatabase
    from job_harness.worlds.postgres.resetter import Reset as Reset
    from job_harness.worlds.postgres.resetter import Resetter as Resetter

_HOMES = {
    "Cluster": "cluster",
    "PassedOver": "cluster",
    "Provenance": "cluster",
    "provision": "provider",
    "KeptDatabase": "resetter",
    "Reset": "resetter",
    "Resetter": "resetter",
}

__all__ = ["Cluster", "KeptDatabase", "PassedOver", "Provenance", "Reset", "Resetter", "provision", "virtual_clock"]


def __getattr__(name: str) -> object:
    if name == "virtual_clock":
        return importlib.import_module("job_harness.worlds.postgres.virtual_clock")
    if name in _HOMES:
        return getattr(importlib.import_module(f"job_harness.worlds.postgres.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
