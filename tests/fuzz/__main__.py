"""`make fuzz`: throw damaged and hostile input at everything that reads any, for a bounded time.

    make fuzz ARGS="--seconds 60 --seed 7"      fuzz everything, a share of the time each
    make fuzz ARGS="--only token --seconds 30"
    make fuzz ARGS="--replay .job-harness/fuzz/token-1a2b3c4d"

Exit code: 0 nothing was found, 1 something was, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.campaign import KEPT, Fuzzed, fuzz, judged
from tests.fuzz.fuzzers import FUZZERS, Fuzzer
from tests.fuzz.judging import RULES, as_one_file, read

from job_harness.core.printable import printable_streams
from job_harness.errors import did_you_mean

KEEP = Path(".job-harness/fuzz")


def main(argv: list[str] | None = None) -> int:
    """Fuzz, or replay one input; return the exit code."""
    given = _arguments(argv)
    if given.replay is not None:
        return _replay(Path(given.replay), keep_as=given.keep_as)
    chosen = [_named(name) for name in given.only] or list(FUZZERS)
    share = given.seconds / len(chosen)
    print(f"seed {given.seed}: {len(chosen)} fuzzers, {share:.0f} s each", flush=True)
    found = 0
    for fuzzer in chosen:
        fuzzed = fuzz(fuzzer, seed=given.seed, seconds=share, keep=KEEP)
        found += len(fuzzed.findings)
        _show(fuzzed)
    return 1 if found else 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    rules = "\n".join(f"  {name:16}{what}" for name, what in RULES.items())
    parser = argparse.ArgumentParser(
        prog="make fuzz",
        description="Throw damaged and hostile input at everything that reads any.",
        epilog=f"what counts as a failure:\n{rules}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seconds", type=float, default=60.0, metavar="N", help="how long in all, shrinking not counted (60)")
    add("--seed", type=int, default=0, metavar="N", help="what the inputs are drawn from (0)")
    add("--only", action="append", default=[], metavar="FUZZER", help="one of " + ", ".join(_names()))
    add("--replay", metavar="INPUT", help="judge one input that was kept, and print what it breaks")
    add("--keep-as", metavar="NAME", help="with --replay: keep it for the tests, as tests/fuzz/kept/FUZZER-NAME.json")
    return parser.parse_args(argv)


def _names() -> list[str]:
    return [fuzzer.name for fuzzer in FUZZERS]


def _named(name: str) -> Fuzzer:
    for fuzzer in FUZZERS:
        if fuzzer.name == name:
            return fuzzer
    print(f"make fuzz: no such fuzzer: {name!r}{did_you_mean(name, _names())}", file=sys.stderr)
    raise SystemExit(2)


def _replay(place: Path, *, keep_as: str | None) -> int:
    if not place.exists():
        print(f"make fuzz: {place}: there is no such file or folder", file=sys.stderr)
        return 2
    fuzzer = _named(place.name.partition("-")[0])
    files = read(place)
    with tempfile.TemporaryDirectory() as scratch:
        fault = judged(fuzzer, files, Path(scratch) / "input")
    if keep_as is not None:
        (KEPT / f"{fuzzer.name}-{keep_as}.json").write_text(as_one_file(files))
    print(f"{fuzzer.name}: {fault or 'no rule is broken'}")
    return 0 if fault is None else 1


def _show(fuzzed: Fuzzed) -> None:
    counted = f"{fuzzed.inputs} inputs ({fuzzed.distinct} distinct) in {fuzzed.seconds:.0f} s"
    print(f"{fuzzed.fuzzer:14} {counted}, {len(fuzzed.findings) or 'no'} findings", flush=True)
    for finding in fuzzed.findings:
        print(f"  {finding.rule}: {finding.what}")
        print(f'  replay: make fuzz ARGS="--replay {finding.folder}"', flush=True)


if __name__ == "__main__":
    with printable_streams():
        code = main()
    raise SystemExit(code)
