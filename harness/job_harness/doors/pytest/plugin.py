"""The pytest plugin: fixtures, options and scenario files as tests. Imports nothing heavy at start-up."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import sys
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from job_harness.core.yaml_files import SUFFIXES

if TYPE_CHECKING:
    from job_harness.core.invariants import Invariant
    from job_harness.core.port import QueueUnderTest
    from job_harness.doors.pytest.explored_test import ExploredTest
    from job_harness.doors.pytest.fixtures import JobPostgres, JobPostgresDatabases, Shared
    from job_harness.doors.pytest.left_open import Gap, LeftOpen
    from job_harness.errors import EnvironmentUnavailable
    from job_harness.subjects.processors import AsyncJobHarness, JobHarness
    from job_harness.subjects.processors.chance import SharedGenerators
    from job_harness.subjects.processors.job_clock import JobClock

_SHARED = pytest.StashKey["Shared"]()
_FAILED = pytest.StashKey[bool]()
_SKIPPED = pytest.StashKey[bool]()
_EXPLORED = pytest.StashKey["ExploredTest"]()
_LEFT = pytest.StashKey["LeftOpen"]()
_DATABASE = pytest.StashKey["JobPostgres"]()
"""The database that a test has by `job_postgres`."""
_USED = pytest.StashKey[set[str]]()
"""Which of `job_harness` and `job_queue` were made for a test, however it asked for them."""
_THREADS = pytest.StashKey[Sequence[threading.Thread]]()
_DESCRIPTORS = pytest.StashKey[Collection[tuple[int, int, int]]]()
"""What ran before any test: the threads of pytest's own plugins."""
_IN_MEMORY = pytest.StashKey[bool]()
"""Whether there are tests of `job_harness`, and no engine was named that has a worker of its own."""
_GENERATORS: pytest.StashKey[SharedGenerators] = pytest.StashKey()
"""What the generators that a process shares were before an explored test."""
_TODAY = pytest.StashKey[datetime.date]()
"""The day on which this run of pytest began, whatever a test freezes."""
_DEFAULT_FOLDER = "scenarios"
_FIXTURES_OF_MARKERS = {
    "job_explore": ("job_harness",),
    "job_settings": ("job_harness", "job_queue"),
    "job_clocks": ("job_harness",),
}
"""By marker the fixtures that read it."""
_REPLAY = "job-harness replay"
"""`recorded.PLUGIN`: nothing is imported for a session that is not of `job-harness replay`."""
_OURS = "job-harness: "
"""Begins the title of each section that we add to a report."""


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the options."""
    _import_as_it_is(pluginmanager)
    group = parser.getgroup("job-harness", "job queues (job-harness)")
    _add_options_of_runs(group)
    _add_options_of_exploring(group)
    _add_options_of_reports(group)
    _add_ini(parser)


def _import_as_it_is(pluginmanager: pytest.PytestPluginManager) -> None:
    """Let pytest rewrite no assertion of ours: it does so in each module of each package that has a plugin.

    That is half of what a first test costs where no bytecode is kept. pytest's own name for its
    marks, 7 to 9.
    """
    hook: Any = pluginmanager.rewrite_hook
    with contextlib.suppress(AttributeError):
        hook._must_rewrite -= {"job_harness", "job_harness_reference"}


def _add_options_of_runs(group: pytest.OptionGroup) -> None:
    """Declare what tests run on."""
    group.addoption(
        "--job-engine",
        default="memory",
        metavar="NAMES",
        help="engines for scenarios and job_queue, separated by commas: memory, reference, postgres (default: memory); "
        "pgboss@VERSION also runs the tests of job_harness, in its own worker",
    )
    group.addoption(
        "--job-seed",
        type=int,
        metavar="N",
        help="the seed for whatever scenarios do not determine, and for the jitter of retry delays",
    )
    group.addoption("--job-scenarios", metavar="FOLDER", help="YAML files below a folder of this name are scenarios")
    group.addoption("--job-dsn", metavar="DSN", help="use this PostgreSQL instead of starting one")


def _add_options_of_exploring(group: pytest.OptionGroup) -> None:
    """Declare what a search disturbs, and how a run of it is played again."""
    group.addoption(
        "--job-explore",
        nargs="?",
        const="200",
        metavar="RUNS|DURATION",
        help="run each test of job_harness N more times (200), or for a duration (30s), with crashes, pauses, "
        "lost messages and duplicates at every await, effect and verb; a run that breaks an invariant fails the "
        "test, with a replay token",
    )
    group.addoption(
        "--job-found",
        metavar="DIR",
        help="write what --job-explore finds as scenarios into this folder (default: .job-harness/found)",
    )
    group.addoption(
        "--job-pin",
        action="store_true",
        help="keep what --job-explore finds, or --job-replay shows, as a test of its own in tests/regressions",
    )
    group.addoption(
        "--job-record",
        metavar="DIR",
        help="keep the history of each run of --job-explore in this folder, for `job-harness replay`",
    )
    group.addoption("--job-replay", metavar="TOKEN", help="replay this token on the one selected test of job_harness")
    group.addoption(
        "--job-stop-at",
        type=int,
        metavar="N",
        help="stop a replay in the debugger at its gate number N; a failing replay lists its gates",
    )


def _add_options_of_reports(group: pytest.OptionGroup) -> None:
    """Declare what is shown, and what counts as a failure."""
    group.addoption(
        "--job-explain",
        action="store_true",
        help="show what happened to the jobs of each failing test; with -rP, of every test",
    )
    group.addoption(
        "--job-html",
        metavar="DIR",
        help="draw what happened in each failing test, as an HTML file in this folder that needs no network",
    )
    group.addoption(
        "--job-strict",
        action="store_true",
        help="fail tests that are inconclusive or not fully judged: a check of a contract, a scenario, an explored "
        "test, a side effect that no invariant judges, and a session in which --job-explore explored no test; where "
        "CI is set, what judged nothing at all fails without it",
    )


def _add_ini(parser: pytest.Parser) -> None:
    parser.addini(
        "job_isolation", "how runs of an explored test are isolated: copy, fork or rerun (default: what fits)"
    )
    parser.addini("job_found", "write what --job-explore finds as scenarios into this folder")
    parser.addini("job_scenarios", "YAML files below a folder of this name are scenarios (default: scenarios)")
    parser.addini(
        "job_clocks",
        "the clocks that processors read, time.time() and datetime.now(): virtual or real (default: virtual)",
    )
    parser.addini(
        "job_blocked_after", "a processor that keeps control for this many real seconds fails its test (default: 30)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, and refuse options that no test could follow."""
    _check_options(config)
    config.addinivalue_line("markers", "job_settings(**settings): settings of job_harness and job_queue, by name")
    config.addinivalue_line(
        "markers",
        "job_explore(runs=200, seconds=None, isolation=None, forgets=False, calls_fail=True, known={}): "
        "play this test so often",
    )
    config.addinivalue_line("markers", 'job_clocks("virtual" | "real"): the clocks that processors of this test read')
    config.addinivalue_line("markers", 'job_accepts("words", ...): what a pass leaves open here may be so')
    config.addinivalue_line("markers", "postgres: needs a real PostgreSQL")
    config.stash[_THREADS] = threading.enumerate()
    config.stash[_DESCRIPTORS] = _open_descriptors()
    config.stash[_TODAY] = datetime.datetime.now().astimezone().date()  # noqa: TID251 - a quarantine ends on a real day


def _check_options(config: pytest.Config) -> None:
    """Raise pytest's UsageError once, instead of an error in every test; the defaults need no import."""
    if (asked := config.getoption("--job-explore")) is not None and not _bounds_runs(asked):
        raise pytest.UsageError(
            f"--job-explore: expected a number of runs (200) or a duration (30s), not {asked!r:.80}; "
            "without one, write it last"
        )
    if config.getoption("--job-stop-at") is not None and not config.getoption("--job-replay"):
        raise pytest.UsageError("--job-stop-at stops a replay: give the token of its run by --job-replay too")
    if (folder := config.getoption("--job-html")) and not _may_be_folder(Path(folder)):
        raise pytest.UsageError(f"--job-html {folder}: this is a file, or below one; name a folder")
    if config.getini("job_blocked_after"):
        _blocked_after(config)
    if (engines := _engines(config)) == ("memory",):
        return
    from job_harness.errors import UsageError
    from job_harness.search.targets import checked

    try:
        for engine in engines:
            checked(engine)
    except UsageError as error:
        raise pytest.UsageError(f"--job-engine: {error}") from None


def _may_be_folder(folder: Path) -> bool:
    return next((each.is_dir() for each in (folder, *folder.absolute().parents) if each.exists()), True)


def _bounds_runs(asked: str) -> bool:
    if asked.isascii() and asked.isdigit():
        return int(asked) > 0
    from job_harness.core.model import parse_duration

    try:
        return parse_duration(asked) > 0
    except ValueError:
        return False


def _open_descriptors() -> frozenset[tuple[int, int, int]]:
    """List what is open already, each with its device and inode: pytest's own, copies of its standard output too."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir("/dev/fd"):
            with contextlib.suppress(OSError):
                opened = os.fstat(int(name))
                found.add((int(name), opened.st_dev, opened.st_ino))
    return frozenset(found)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Forget what an earlier session of this process declared."""
    if (loaded := sys.modules.get("job_harness.subjects.processors.delivery")) is not None:
        loaded.EXTERNALS.clear()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what this process started."""
    shared = config.stash.get(_SHARED, None)
    if shared is not None:
        shared.close()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a session that judged nothing of what it asked for: a strict one that explored no test, for one."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    config = session.config
    if terminal is None or session.exitstatus != pytest.ExitCode.OK:
        return
    explored_none = config.getoption("--job-strict") and _explored_none(terminal, config)
    if explored_none or (_fails_if_nothing(config) and _never(terminal)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _fails_if_nothing(config: pytest.Config) -> str:
    """Say by what a test or session fails that judged nothing; empty: it does not fail."""
    return "--job-strict" if config.getoption("--job-strict") else "CI" if os.environ.get("CI") else ""


def _never(terminal: Any) -> bool:
    """Whether tests ask about a side effect that no test of this session had."""
    reports = [each for reports in terminal.stats.values() for each in reports if hasattr(each, "job_left")]
    if not reports:
        return False
    from job_harness.doors.pytest.failure_section import left_by_test
    from job_harness.doors.pytest.left_open import never_in_session

    return bool(never_in_session(left_by_test(reports)))


def _explored_none(terminal: Any, config: pytest.Config) -> bool:
    """Whether every test went well, and none was explored though that was asked for."""
    stats = terminal.stats
    if not config.getoption("--job-explore") or stats.get("failed") or stats.get("error"):
        return False
    reports = [each for name in ("passed", "skipped", "xfailed", "xpassed") for each in stats.get(name, ())]
    return bool(reports) and not _any_explored(reports)


def _any_explored(reports: Iterable[Any]) -> bool:
    called = (each for each in reports if isinstance(each, pytest.TestReport))
    return any(f"{_OURS}explored" in title for each in called for title, _ in each.sections)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say which PostgreSQL was used, and why, what was not judged, and what was not under control."""
    _tell_inconclusive(terminalreporter)
    if _explored_none(terminalreporter, config):
        terminalreporter.write_line(f"{_OURS}explored no test: none that takes job_harness was called")
    reports = itertools.chain.from_iterable(terminalreporter.stats.values())
    if (folder := config.getoption("--job-record")) and not _any_explored(reports):
        why = "only explored runs are: add --job-explore N, or the marker job_explore"
        terminalreporter.write_line(f"job-harness: --job-record {folder}: no run was recorded; {why}")
    if (folder := config.getoption("--job-html")) and Path(folder).is_dir():
        terminalreporter.write_line(f"job-harness: pictures of tests that failed are in {folder}")
    engines = config.getoption("--job-engine")
    if engines != "memory" and config.stash.get(_IN_MEMORY, False):
        terminalreporter.write_line(
            f"job_harness ran in memory: --job-engine {engines} applies to scenarios and job_queue"
        )
    shared = config.stash.get(_SHARED, None)
    if shared is not None and (told := shared.provenance(whole=config.get_verbosity() > 0)):
        terminalreporter.write_line(told)
    _tell_sections(terminalreporter, config)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect scenario files."""
    if file_path.suffix not in SUFFIXES:
        return None
    config = parent.config
    chosen = config.getoption("--job-scenarios") or config.getini("job_scenarios")
    from job_harness.doors.pytest.pinned import PinnedFile, is_pin

    if is_pin(file_path):
        pinned: PinnedFile = PinnedFile.from_parent(parent, path=file_path)
        return pinned
    from job_harness.doors.pytest.collection import ScenarioFile, is_scenario

    asked = parent.session.isinitpath(file_path)
    if not is_scenario(file_path, config.rootpath, name=chosen or _DEFAULT_FOLDER, chosen=bool(chosen), asked=asked):
        return None
    file: ScenarioFile = ScenarioFile.from_parent(parent, path=file_path)
    file.engines = _engines(config)
    file.seed = config.getoption("--job-seed")
    file.blocked_after = _blocked_after(config)
    file.shared = lambda: _shared(config)
    return file


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for `job_queue` once on each engine, and `job_harness` on each that has a worker of its own."""
    if "job_queue" in metafunc.fixturenames:
        engines = [
            pytest.param(name, marks=pytest.mark.postgres) if name.startswith("postgres") else name
            for name in _engines(metafunc.config)
        ]
        metafunc.parametrize("job_queue", engines, indirect=True)
    if "job_harness" in metafunc.fixturenames:
        if (places := _workplaces(metafunc.config)) == ("memory",):
            metafunc.config.stash[_IN_MEMORY] = True
            return
        marked = [p if p == "memory" else pytest.param(p, marks=pytest.mark.postgres) for p in places]
        metafunc.parametrize("job_harness", marked, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Explore a test whose runs are played in this process; after that its own protocol begins as ever."""
    if not isinstance(item, pytest.Function) or not _asks_to_explore(item):
        return None
    try:
        explored = item.stash[_EXPLORED] = _made_to_explore(item)
    except pytest.fail.Exception:
        return None  # the test's own call says so
    if not explored.reruns:
        return None
    stash = item.config.stash
    uncalled = explored.explore_by_rerunning(
        forget=lambda: item.stash.__setitem__(_FAILED, False), threads=stash[_THREADS], opened=stash[_DESCRIPTORS]
    )
    return uncalled or None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let an explored test and its fixtures draw the same in each run, from the generators that a process shares.

    A mark that accepts nothing is refused here.
    """
    if item.get_closest_marker("job_accepts") is not None:
        _left_open(item)
    if isinstance(item, pytest.Function) and _asks_to_explore(item):
        from job_harness.subjects.processors.chance import seed_shared_generators

        item.stash[_GENERATORS] = seed_shared_generators()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Explore a test of `job_harness` where that is asked for; then, or instead of that, let it run once."""
    if not _asks_to_explore(pyfuncitem):
        return (yield)
    from job_harness.search.explored.played import InChild

    explored = _explored(pyfuncitem)
    harness: Any = pyfuncitem.funcargs["job_harness"]
    explored.name_folders(harness)
    mine = pyfuncitem.stash.get(_DATABASE, None)
    if mine is not None:
        harness.play.locks = mine
    if explored.turn is not None:
        with explored.turn.playing(harness):
            yield
        return True
    explored.attach(harness)
    try:
        stash = pyfuncitem.config.stash
        databases = () if mine is None else (mine,)
        explored.explore(threads=stash[_THREADS], opened=stash[_DESCRIPTORS], databases=databases)
    except InChild as forked:
        child = forked.child
    else:
        with explored.replaying():
            try:
                result = yield
            except Exception:
                explored.tell_failed()
                raise
            explored.tell(_left_open(pyfuncitem))
        return result
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - what a disturbed test raises is written down, not raised
        child.finish(error)
    child.finish(None)


def _asks_to_explore(item: pytest.Function) -> bool:
    """Say whether a test is to be explored or replayed, and can be: unittest calls its tests by itself."""
    return _is_to_explore(item) and "job_harness" in item.fixturenames and not _is_of_unittest(item)


def _is_to_explore(item: pytest.Item) -> bool:
    option, token = item.config.getoption("--job-explore"), item.config.getoption("--job-replay")
    replays = item.config.pluginmanager.has_plugin(_REPLAY)
    return bool(option or token or replays or item.get_closest_marker("job_explore"))


def _is_of_unittest(item: pytest.Item) -> bool:
    unittest = sys.modules.get("unittest")
    if unittest is None or not isinstance(item, pytest.Function) or item.cls is None:
        return False
    return issubclass(item.cls, unittest.TestCase)


def _explored(item: pytest.Function) -> ExploredTest:
    explored = item.stash.get(_EXPLORED, None)
    return _made_to_explore(item) if explored is None else explored


def _made_to_explore(item: pytest.Function) -> ExploredTest:
    from job_harness.doors.pytest.explored_test import ExploredTest

    config = item.config
    return ExploredTest.of(
        item,
        option=config.getoption("--job-explore"),
        token=config.getoption("--job-replay"),
        marker=item.get_closest_marker("job_explore"),
        today=config.stash[_TODAY],
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    """Skip a test that needs a program which is not here, or is too old, with the reason."""
    try:
        return (yield)
    except Exception as error:
        if type(error).__module__ == "job_harness.errors":  # Nothing of ours is imported for another package's error.
            from job_harness.errors import ProgramMissing

            if isinstance(error, ProgramMissing):
                raise pytest.skip.Exception(str(error)) from None
        raise


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """Name what was asked of a test that passed and had no effect on it: a marker, or to explore it."""
    try:
        result = yield
    finally:
        if (generators := item.stash.get(_GENERATORS, None)) is not None:
            generators.put_back()
    lines = list(_without_effect(item))
    if not lines or item.stash.get(_FAILED, False) or item.stash.get(_SKIPPED, False):
        return result
    from job_harness.doors.pytest.left_open import Gap

    _tell_left(item, [Gap(line) for line in lines])
    return result


def _without_effect(item: pytest.Item) -> Iterator[str]:
    """Write a line for each thing that was asked of this test, and that nothing has read."""
    used = item.stash.get(_USED, set[str]())
    for name, fixtures in _FIXTURES_OF_MARKERS.items():  # Those of a class or module are for the tests that use them.
        if not used.intersection(fixtures) and any(marker.name == name for marker in item.own_markers):
            yield f"the marker {name} has no effect on a test that does not use {' or '.join(fixtures)}"
    if "job_harness" in used and _EXPLORED not in item.stash and _is_to_explore(item):
        done = "replayed" if item.config.getoption("--job-replay") else "explored"
        if _is_of_unittest(item):
            yield f"a test of a unittest.TestCase is not {done}: write a function that takes job_harness"
        else:
            yield f"a test that gets job_harness while it runs is not {done}: let it take job_harness as an argument"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Remember that a test failed: then its failed jobs are no news. Show it without frames of the harness."""
    ours = False
    if call.excinfo is not None and not item.config.getoption("fulltrace"):
        from job_harness.doors.pytest.failure_section import failed_by_us, leave_out_own_frames

        ours = failed_by_us(call.excinfo)
        leave_out_own_frames(call.excinfo)
    report = yield
    if ours:  # On CI pytest's summary has whole messages: the screen would stand there a second time.
        report.longrepr.reprcrash.message = report.longrepr.reprcrash.message.partition("\n")[0]
    if report.skipped:
        item.stash[_SKIPPED] = True
    if (told := _inconclusive(report)) and call.excinfo is not None:
        from job_harness.doors.pytest.left_open import Gap
        from job_harness.subjects.processors.judgement import Unjudged, left_unjudged

        left, unjudged = _left_open(item), left_unjudged(call.excinfo.value)
        nothing = unjudged is not None
        if left.take([Gap(told, nothing, unjudged is Unjudged.PARTLY)]) and (by := left.fails_by(nothing)):
            report.outcome, report.longrepr = "failed", f"{by}: {told}"
            return report
    if report.failed:
        item.stash[_FAILED] = True
        if call.when == "call" and not item.config.getoption("--job-explain"):
            _show_failed(item, report)
    if call.when == "teardown" and (left_open := item.stash.get(_LEFT, None)) is not None:
        ended = not (item.stash.get(_FAILED, False) or item.stash.get(_SKIPPED, False))
        report.job_left = left_open.as_data(item, ended=ended)  # which pytest-xdist carries to the summary
    return report


_INCONCLUSIVE = "inconclusive: "  # `judgement.INCONCLUSIVE`: nothing is imported for tests that know nothing of us.
_MOST_NAMED = 3
"""Tests that are named beside one reason."""


def _inconclusive(report: pytest.TestReport) -> str:
    """Return why a skipped test is inconclusive; empty where it was skipped for another reason."""
    reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
    told = reason.removeprefix("Skipped: ")
    return told if told.startswith(_INCONCLUSIVE) else ""


def _tell_inconclusive(terminal: Any) -> None:
    """Show what was not judged, without being asked for the reasons of skips: it looks like a pass otherwise."""
    skipped = [(report, told) for report in terminal.stats.get("skipped", ()) if (told := _inconclusive(report))]
    if not skipped:
        return
    terminal.section("job-harness: inconclusive")
    from job_harness.doors.pytest.left_open import mark_of

    reasons: dict[str, list[str]] = {}
    for report, told in skipped:
        reasons.setdefault(told.removeprefix(_INCONCLUSIVE), []).append(report.nodeid)
    for told, tests in reasons.items():
        more = f" and {len(tests) - _MOST_NAMED} more (-rs shows which)" if len(tests) > _MOST_NAMED else ""
        terminal.write_line(", ".join(tests[:_MOST_NAMED]) + more)
        terminal.write_line("".join(f"  {line}\n" for line in (*told.splitlines(), f"accepted by {mark_of(told)}")))
    terminal.write_line(
        f"{len(skipped)} not judged; --job-strict fails them, and CI those that did not judge every run"
    )


def _show_failed(item: pytest.Item, report: pytest.TestReport) -> None:
    """Show what happened to the jobs of a test that failed by itself, with its token; a campaign has its own screen."""
    explored = item.stash.get(_EXPLORED, None)
    if "job_harness" not in getattr(item, "fixturenames", ()) or (explored is not None and explored.told):
        return
    from job_harness.doors.pytest.failure_section import EXPLAINED, failed_section

    if told := failed_section(item):
        report.sections.append((f"Captured {EXPLAINED} call", told))


@pytest.fixture
def job_clock() -> Iterator[JobClock]:
    """The test's virtual time: `now`, `advance("15m")`, `jump("1h")`; `freeze()` lets datetime.now() follow."""
    from job_harness.core.garbage import collecting_seldom

    with collecting_seldom():  # Hardly anything that an import makes is garbage.
        from job_harness.doors.pytest.fixtures import exits_are_told  # noqa: F401 - with all that a test needs
        from job_harness.subjects.processors.job_clock import JobClock

    clock = JobClock()
    yield clock
    clock.close()


@pytest.fixture
def job_invariants() -> Iterable[Invariant]:
    """Override it: return your own invariants, such as `at_most_once("charged")`, which then judge every test."""
    return ()


@pytest.fixture
def job_on_start() -> Callable[[], object] | None:
    """Override it: return what your process does when it starts, such as `DBOS.launch`: each life of a worker does."""
    return None


@pytest.fixture
def job_harness(
    request: pytest.FixtureRequest,
    job_clock: JobClock,
    job_invariants: Iterable[Invariant],
    job_on_start: Callable[[], object] | None,
) -> Iterator[JobHarness]:
    """Runs your processors in the real worker on virtual time; anomalies, ignored failures and leaks fail the test."""
    from job_harness.doors.pytest.failure_section import (
        EXPLAINED,
        MOST_ROWS,
        NOTES,
        explanation,
        failed_section,
    )
    from job_harness.doors.pytest.fixtures import exits_are_told
    from job_harness.doors.pytest.left_open import Gap, LeftOpen

    request.node.stash[_FAILED] = request.node.stash[_SKIPPED] = False  # Of an earlier run, where it is repeated.
    left = request.node.stash[_LEFT] = LeftOpen.of(request.node, by=_fails_if_nothing(request.config))
    request.node.stash.setdefault(_USED, set()).add("job_harness")
    with _opened(request, job_invariants) as harness, exits_are_told(request.node):
        job_clock.drive(harness)
        if job_on_start is not None:
            harness.on_start(job_on_start)
        yield harness
        explored = request.node.stash.get(_EXPLORED, None)
        if explored is not None and explored.turn is not None:
            return  # It was disturbed on purpose, and is judged by the code that did that.
        known = explored is not None and explored.campaign.tolerated
        problems = harness.review.test_problems() if known else harness.problems(title=request.node.name)
        notes = left.take_notes(harness.notes())
        gaps = [Gap(harness.review.unended(), not harness.review.worked), Gap(harness.review.unserved())]
        left.happened |= harness.review.happened
        if explored is None:
            left.idle |= harness.review.idle if harness.review.worked else frozenset()
            gaps.append(Gap(harness.review.unsent(), nothing=True))
        if request.config.getoption("--job-explain"):
            failed = (problems or request.node.stash.get(_FAILED, False)) and (explored is None or not explored.told)
            rows = failed_section(request.node, most=MOST_ROWS) if failed else explanation(harness.history)
            if rows:
                request.node.add_report_section("teardown", EXPLAINED, rows)
        elif problems and _EXPLORED not in request.node.stash and not request.node.stash.get(_FAILED, False):
            request.node.add_report_section("teardown", EXPLAINED, failed_section(request.node))
        if problems or request.node.stash.get(_FAILED, False):
            _draw(request.node, harness, problems)
    if notes:
        request.node.add_report_section("teardown", NOTES, "\n".join(notes))
    gave_up = explored is not None and explored.gave_up  # The test itself is judged as a plain one then.
    # What was not judged fails the test in a CI; what was found wrong says more.
    campaign = None if explored is None else explored.campaign
    unjudged = campaign is not None and campaign.disturbed > 0 and not (campaign.finding or campaign.failed)
    failed = request.node.stash.get(_FAILED, False) and not (unjudged and problems)
    if failed or (request.node.stash.get(_SKIPPED, False) and not gave_up):
        return
    if problems:
        pytest.fail("\n\n".join(problems), pytrace=False)
    _tell_left(request.node, [gap for gap in gaps if gap.text])


def _left_open(item: pytest.Item) -> LeftOpen:
    """Return what a test has left open so far."""
    left = item.stash.get(_LEFT, None)
    if left is None:
        from job_harness.doors.pytest.left_open import LeftOpen

        left = item.stash[_LEFT] = LeftOpen.of(item, by=_fails_if_nothing(item.config))
    return left


def _tell_left(item: pytest.Item, gaps: Sequence[Gap]) -> None:
    """Report what a pass of a test does not promise, and fail it where that is no pass."""
    from job_harness.doors.pytest.failure_section import NOT_JUDGED

    left = _left_open(item)
    if not (gaps := left.take(gaps)):
        return
    item.add_report_section("teardown", NOT_JUDGED, "\n".join(gap.text for gap in gaps))
    if told := left.fails(gaps):
        pytest.fail(told, pytrace=False)


def _opened(request: pytest.FixtureRequest, invariants: Iterable[Invariant]) -> JobHarness:
    """Return the harness of a test, as its options and markers say."""
    from job_harness.doors.pytest.failure_section import errors_without_traceback
    from job_harness.engines.reference.application import GUIDE
    from job_harness.errors import EnvironmentUnavailable
    from job_harness.subjects.processors import JobHarness

    seed, shared = _seed(request.config), _shared(request.config)
    replaying: Any = request.config.pluginmanager.get_plugin(_REPLAY)
    try:
        with errors_without_traceback():
            harness = JobHarness(
                settings=_settings(request, GUIDE),
                seed=seed,
                blocked_after=_blocked_after(request.config),
                invariants=invariants,
                workplace=shared.workplace(getattr(request, "param", "memory")),
                clocks=_clocks(request),
            )
            if replaying is not None:
                harness.bench.running.replacements = replaying.replacements
            return harness
    except EnvironmentUnavailable as error:
        _give_up(error, shared)


def _draw(item: pytest.Item, harness: JobHarness, problems: list[str]) -> None:
    if not item.config.getoption("--job-html"):
        return
    import shlex

    from job_harness.doors.pytest.failure_section import draw

    seen = harness.review.observed(title=item.name)
    told = problems[1:] if seen.anomalies else problems or ["the test failed"]  # the first one is the anomaly's screen
    failures = [" ".join(problem.split("\n")[:2]) for problem in told]
    run = harness.review.observed(title=item.name, failures=failures)
    draw(run, item, replay=f"pytest {shlex.quote(item.nodeid)}")


@pytest.fixture
def async_job_harness(request: pytest.FixtureRequest, job_harness: JobHarness) -> Iterator[AsyncJobHarness]:
    """`job_harness` for tests that are coroutines: every method is awaited."""
    from job_harness.subjects.processors.async_harness import AsyncJobHarness, never_awaited

    harness = AsyncJobHarness(job_harness)
    yield harness
    stash = request.node.stash
    if (told := never_awaited(harness)) and not stash.get(_FAILED, False):
        stash[_FAILED] = True  # What else is wrong with the jobs follows from it.
        pytest.fail(told, pytrace=False)


@pytest.fixture
def job_queue(request: pytest.FixtureRequest, job_clock: JobClock) -> Iterator[QueueUnderTest]:
    """An empty queue on each engine of `--job-engine`; its store's clock is `job_clock`."""
    from job_harness.core.model import Settings
    from job_harness.core.target import Target
    from job_harness.doors.pytest.failure_section import errors_without_traceback
    from job_harness.doors.pytest.fixtures import open_queue
    from job_harness.errors import EnvironmentUnavailable

    request.node.stash.setdefault(_USED, set()).add("job_queue")
    shared = _shared(request.config)
    try:
        engine = shared.get(Target.parse(request.param))
        with errors_without_traceback():
            queue = open_queue(
                engine,
                settings=_settings(request, Settings()),
                clocks=job_clock.clocks,
                seed=request.config.getoption("--job-seed") or 0,
            )
    except EnvironmentUnavailable as error:
        _give_up(error, shared)
    yield queue
    queue.close()


@pytest.fixture(scope="session")
def job_postgres_schema() -> Callable[[str], object]:
    """Override it: return a function that takes a connection string and migrates that database, once."""
    return _migrate_nothing


def _migrate_nothing(url: str) -> None: ...


@pytest.fixture(scope="session")
def _job_postgres_of_session(request: pytest.FixtureRequest) -> Iterator[JobPostgresDatabases]:
    from job_harness.doors.pytest.fixtures import JobPostgresDatabases
    from job_harness.errors import EnvironmentUnavailable

    shared = _shared(request.config)
    try:
        cluster = shared.cluster()
    except EnvironmentUnavailable as error:
        _give_up(error, shared)
    databases = JobPostgresDatabases(cluster)
    yield databases
    databases.close()


@pytest.fixture
def job_postgres(
    request: pytest.FixtureRequest,
    _job_postgres_of_session: JobPostgresDatabases,
    job_postgres_schema: Callable[[str], object],
) -> Iterator[JobPostgres]:
    """A real PostgreSQL database, `url`; emptied after each test, and by `reset(keep=[...])`."""
    database = request.node.stash[_DATABASE] = _job_postgres_of_session.migrated_by(job_postgres_schema)
    yield database
    explored = request.node.stash.get(_EXPLORED, None)
    if explored is None or database not in explored.databases:
        database.reset()


def _tell_sections(terminalreporter: Any, config: pytest.Config) -> None:
    """Say in a few lines what the sections of all reports say; without any, nothing is imported."""
    reports = {id(each): each for reports in terminalreporter.stats.values() for each in reports}.values()
    if any(_OURS in name for report in reports for name, _ in getattr(report, "sections", ())) or any(
        hasattr(report, "job_left") for report in reports
    ):
        from job_harness.doors.pytest.failure_section import session_lines

        for line in session_lines(reports, fails=_fails_if_nothing(config)):
            terminalreporter.write_line(line)


def _engines(config: pytest.Config) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in config.getoption("--job-engine").split(",") if name.strip()))
    if not names:
        raise pytest.UsageError("--job-engine names no engine; try --job-engine=memory,postgres")
    return names


def _blocked_after(config: pytest.Config) -> float:
    from job_harness.core.sim.watchdog import BUSY_SECONDS

    text = config.getini("job_blocked_after")
    try:
        seconds = float(text) if text else BUSY_SECONDS
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise pytest.UsageError(f"job_blocked_after is {text!r}; give real seconds, such as 30")
    return seconds


def _clocks(request: pytest.FixtureRequest) -> str:
    """Return which clocks processors read: by the marker, else by the ini file."""
    from job_harness.subjects.processors.clocks import VIRTUAL, checked_clocks

    marker = request.node.get_closest_marker("job_clocks")
    if marker is None:
        return checked_clocks(request.config.getini("job_clocks") or VIRTUAL)
    return checked_clocks(marker.args[0] if len(marker.args) == 1 and not marker.kwargs else marker.args)


def _workplaces(config: pytest.Config) -> tuple[str, ...]:
    if (named := _engines(config)) == ("memory",):
        return named
    from job_harness.doors.pytest.fixtures import workplaces
    from job_harness.errors import UsageError

    try:
        return workplaces(named)
    except UsageError as error:
        raise pytest.UsageError(f"--job-engine: {error}") from None


def _shared(config: pytest.Config) -> Shared:
    shared = config.stash.get(_SHARED, None)
    if shared is None:
        from job_harness.doors.pytest.fixtures import Shared

        shared = config.stash[_SHARED] = Shared(dsn=config.getoption("--job-dsn"))
    return shared


def _give_up(error: EnvironmentUnavailable, shared: Shared) -> NoReturn:
    """Skip where a program is missing, or no PostgreSQL was found; fail where the one that was named is gone."""
    from job_harness.errors import ProgramMissing

    if shared.dsn_given and not isinstance(error, ProgramMissing):
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    raise pytest.skip.Exception(str(error)) from None


def _seed(config: pytest.Config) -> int:
    """Return what jitters retry delays: what is asked for, or what the run of a replay token had."""
    seed, token = config.getoption("--job-seed"), config.getoption("--job-replay")
    if seed is None and token:
        from job_harness.core.scenario.replay_token import decode
        from job_harness.errors import UsageError

        try:
            return decode(token).seed or 0
        except UsageError:
            return 0  # the test's own call says so
    return seed or 0


def _settings(request: pytest.FixtureRequest, settings: Any) -> Any:
    marker = request.node.get_closest_marker("job_settings")
    if marker is None:
        return settings
    from job_harness.doors.pytest.fixtures import changed_settings
    from job_harness.errors import UsageError

    if marker.args:
        raise UsageError(
            "job_settings: a setting needs its name", hint='Write @pytest.mark.job_settings(job_timeout="30s").'
        )
    return changed_settings(settings, marker.kwargs)
