"""What every test of this repository has: pytest's own `pytester`, and little for the garbage collector to search."""

import gc

pytest_plugins = "pytester"


def pytest_collection_finish() -> None:
    """Leave what was collected out of later garbage collections.

    Six thousand tests and all modules are 280 000 objects that stay until the end. A full collection took 0.2 s with
    them, and all of them together a tenth of the CPU time of a whole run.
    """
    gc.collect()
    gc.freeze()
