"""Runs a Python program again and again, as cron does: `python repeat.py SECONDS (SCRIPT | -m MODULE) ARGUMENT...`.

All in one process, whose sleep follows virtual time like that of any scheduler. What the program
has imported from the folder of the system is forgotten after each time, as by a new process;
packages stay imported. Whatever ends the program, an error too, ends it for this time only; but one
that cannot be found, read or imported ends all. Needs the standard library and nothing else.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
import traceback

FAILED = "job-harness: this run of a cron command failed"
"""The harness knows by this line, among what is printed, that the command failed."""
PACKAGES = f"{os.sep}site-packages{os.sep}"


def once(words: list[str]) -> None:
    """Run the program as the command line would, and say where it ends with an error."""
    sys.argv = words[1:] if words[0] == "-m" else words
    try:
        if words[0] == "-m":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        if ended.code:
            print(FAILED, file=sys.stderr, flush=True)
    except (ImportError, SyntaxError):
        raise  # No fault of a run does that: nothing would ever run.
    except Exception:  # noqa: BLE001 - whatever it is, cron runs the program again
        traceback.print_exc()
        print(FAILED, file=sys.stderr, flush=True)


def forget(known: set[str]) -> None:
    """Forget the modules of the system's own folder that were imported since."""
    folder = os.getcwd() + os.sep
    for name in set(sys.modules) - known:
        path = getattr(sys.modules[name], "__file__", None) or ""
        if path.startswith(folder) and PACKAGES not in path:
            del sys.modules[name]


def main(seconds: float, words: list[str]) -> None:
    """Run it forever, at once and then every so often."""
    if words[0] != "-m" and not os.path.isfile(words[0]):
        sys.exit(f"there is no program {words[0]}")
    sys.path[0] = os.getcwd() if words[0] == "-m" else os.path.dirname(os.path.abspath(words[0]))
    known = set(sys.modules)
    while True:
        once(words)
        forget(known)
        time.sleep(seconds)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
