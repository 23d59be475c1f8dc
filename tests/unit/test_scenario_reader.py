"""Reading scenarios: what is accepted, and that everything else is refused with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from job_harness.core.model.duration import MINUTE, SECOND
from job_harness.core.scenario.document import ScenarioError
from job_harness.core.scenario.job_plan import Ending, Span
from job_harness.core.scenario.reader import parse_changes, read_scenario, read_scenario_text
from job_harness.core.scenario.schema import (
    DeviationPart,
    ExpectPart,
    JobPart,
    ProcessorPart,
    ScenarioPart,
    SettingsPart,
)
from job_harness.errors import ExitCode, UsageError

GOOD = """\
format: 1
title: A worker dies mid-job and the job is retried
why: A crash must count as an attempt and must not lose the job.
settings: {max_attempts: 3, job_timeout: 10m, lease: 11m, stuck_timeout: 30m, heartbeat_interval: null}
env: {USE_PGBOSS_WORKERS: "true"}
workers: [w1, w2]
jobs:
  a: {tool: my-tool, input: {text: Hello}, outcomes: [fail, succeed], takes: 0.95 lease}
  b: {every: 1m, count: 2, takes: [30s, 1m]}
  c: {held_back: true, outcomes: fail finally}
steps:
  - w1 claims a
  - crash w1 while running a
  - enqueue c -> done
  - run until idle
tape:
  - {at: "w2 complete a", do: pause a lease + 1s}
expect:
  a: {status: COMPLETED, attempts: 2, runs: 2, gaps: [60s..122s], output: {attempt: 2}, error: late}
  b2: {path: [PENDING, PROCESSING, COMPLETED]}
controls:
  - {queue: stale-complete, settings: {stuck_timeout: 5m}, finds: concurrent_execution}
"""


def refusal(text: str | bytes, **how: object) -> str:
    with pytest.raises(ScenarioError) as caught:
        read_scenario_text(text, path="s.yaml", **how)  # type: ignore[arg-type]
    assert caught.value.exit_code is ExitCode.USAGE
    return str(caught.value)


def with_jobs(rest: str, jobs: str = "jobs: {a: {}}") -> str:
    return f"format: 1\n{jobs}\n{rest}\n"


def test_every_key_arrives_in_the_value() -> None:
    scenario = read_scenario_text(GOOD, path="s.yaml", queues=["stale-complete"])
    a, b, c = scenario.jobs
    assert (a.tool, a.input, a.outcomes) == ("my-tool", {"text": "Hello"}, (Ending.FAIL, Ending.SUCCEED))
    assert a.takes == (Span(factor=0.95, setting="lease"),)
    assert (b.every, b.names(), b.takes) == (MINUTE, ["b1", "b2"], (Span(30 * SECOND), Span(MINUTE)))
    assert c.held_back
    assert c.outcomes == (Ending.FAIL_FINALLY,)
    assert scenario.settings.lease == 11 * MINUTE
    assert scenario.settings.heartbeat_interval == 0
    assert [step.kind for step in scenario.steps] == ["act", "crash", "enqueue", "run"]
    assert scenario.tape[0] == ("w2 complete a", 1, "pause a lease + 1s")
    assert scenario.expect["a"].gaps == ((60 * SECOND, 122 * SECOND),)
    assert scenario.expect["a"].output == {"attempt": 2}
    assert scenario.controls[0].settings == {"stuck_timeout": 5 * MINUTE}
    assert scenario.controls[0].name == "stale-complete stuck_timeout=5m"


def test_steps_expectations_and_controls_know_their_lines() -> None:
    scenario = read_scenario_text(GOOD, path="s.yaml")
    assert [step.line for step in scenario.steps] == [12, 13, 14, 15]
    assert [item.line for item in scenario.expect.values()] == [19, 20]
    assert scenario.controls[0].line == 22


@pytest.mark.parametrize("value", ["null", '"false"', '"True"', '"1"', '""'])
def test_workers_start_only_when_the_variable_is_exactly_true(value: str) -> None:
    scenario = read_scenario_text(with_jobs(f"env: {{USE_PGBOSS_WORKERS: {value}}}"))
    assert not scenario.settings.workers_enabled


def test_workers_start_when_the_variable_is_true_or_not_mentioned() -> None:
    assert read_scenario_text(with_jobs("")).settings.workers_enabled
    assert read_scenario_text(with_jobs('env: {USE_PGBOSS_WORKERS: "true"}')).settings.workers_enabled


def test_yaml_is_1_2_so_on_and_times_are_text() -> None:
    text = with_jobs("", "jobs: {a: {input: {on: on, no: no, at: 10:00, day: 2026-01-01, octal: 0o17, old: 017}}}")
    assert read_scenario_text(text).jobs[0].input == {
        "on": "on", "no": "no", "at": "10:00", "day": "2026-01-01", "octal": 15, "old": 17,
    }  # fmt: skip


def test_an_alias_stands_for_what_it_names() -> None:
    scenario = read_scenario_text("format: 1\njobs:\n  a: &job {takes: 3s}\n  b: *job\n")
    assert scenario.jobs[0].takes == scenario.jobs[1].takes == (Span(3 * SECOND),)


def bomb() -> str:
    levels = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "format: 1\n" + "\n".join(levels) + "\n"


BAD: dict[str, tuple[str | bytes, str, str]] = {
    "empty file": ("", "s.yaml:1:", "the file is empty"),
    "only a comment": ("# nothing\n", "s.yaml:1:", "the file is empty"),
    "a list": ("- a\n", "s.yaml:1:", "a scenario is a mapping"),
    "no format": ("jobs: {a: {}}\n", "s.yaml:1:", "`format` is missing"),
    "a newer format": ("title: x\nformat: 2\nnew: 1\n", "s.yaml:2:", "this program reads format 1, not the number 2"),
    "format as text": ('format: "1"\njobs: {a: {}}\n', "s.yaml:1:", "reads format 1, not '1'"),
    "no jobs": ("format: 1\n", "s.yaml:1:", "'jobs' is missing"),
    "wrong key": (with_jobs("setings: {}"), "s.yaml:3:", "unknown key 'setings' (did you mean 'settings'?)"),
    "wrong key in a job": (
        "format: 1\njobs:\n  a:\n    tool: t\n    take: 3s\n", "s.yaml:5:",
        "unknown key 'take' in jobs.a (did you mean 'takes'?)",
    ),
    "wrong setting": (with_jobs("settings: {leese: 3m}"), "s.yaml:3:", "'leese' in settings (did you mean 'lease'?)"),
    "setting without unit": (with_jobs("settings: {lease: 600}"), "s.yaml:3:", "the number 600 has no unit"),
    "setting of no length": (with_jobs("settings: {lease: 0s}"), "s.yaml:3:", "longer than 0"),
    "eleven years": (with_jobs("settings: {lease: 4015d}"), "s.yaml:3:", "longer than ten years"),
    "attempts as text": (with_jobs('settings: {max_attempts: "3"}'), "s.yaml:3:", "expected a whole number, got '3'"),
    "attempts as bool": (with_jobs("settings: {max_attempts: true}"), "s.yaml:3:", "expected a whole number"),
    "no attempts": (with_jobs("settings: {max_attempts: 0}"), "s.yaml:3:", "max_attempts: expected at least 1, got 0"),
    "moot backoff": (
        with_jobs("settings: {retry_backoff: true, retry_delay: 1h}"),
        "s.yaml:3:",
        "the longest, retry_delay_max, is 1h; set retry_delay_max to 4h, or retry_backoff to false",
    ),
    "bool as text": (with_jobs("settings: {retry_backoff: yes}"), "s.yaml:3:", "expected true or false, got 'yes'"),
    "empty setting": (with_jobs("settings: {lease: }"), "s.yaml:3:", "lease has no value"),
    "unread variable": (with_jobs('env: {PGBOSS_BATCH_SIZE: "5"}'), "s.yaml:3:", "set `settings.batch_size`"),
    "unknown variable": (with_jobs('env: {USE_PGBOS_WORKERS: "1"}'), "s.yaml:3:", "did you mean 'USE_PGBOSS_WORKERS'"),
    "variable as bool": (with_jobs("env: {USE_PGBOSS_WORKERS: true}"), "s.yaml:3:", "expected text, got true"),
    "contradiction": (
        with_jobs('env: {USE_PGBOSS_WORKERS: "no"}\nsettings: {workers_enabled: true}'), "s.yaml:3:", "drop one of them"
    ),
    "outcome": (with_jobs("", "jobs: {a: {outcomes: fial}}"), "s.yaml:2:", "'fial' (did you mean 'fail'?"),
    "no outcomes": (with_jobs("", "jobs: {a: {outcomes: []}}"), "s.yaml:2:", "the list is empty"),
    "endless span": (with_jobs("", f"jobs: {{a: {{takes: {'9' * 400} lease}}}}"), "s.yaml:2:", "times a setting"),
    "span": (with_jobs("", "jobs: {a: {takes: 2 leases}}"), "s.yaml:2:", "neither a duration (30s) nor a multiple"),
    "act": (with_jobs("", "jobs: {a: {then: [retry after 1m, pause after 1m]}}"), "s.yaml:2:", "'pause after 1m'"),
    "NaN as input": (with_jobs("", "jobs: {a: {input: .nan}}"), "s.yaml:2:", "JSON has no such number"),
    "count alone": (with_jobs("", "jobs: {a: {count: 3}}"), "s.yaml:2:", "count needs `every`"),
    "every alone": (with_jobs("", "jobs: {a: {every: 1s}}"), "s.yaml:2:", "every needs `count`"),
    "cancel of many": (
        with_jobs("", "jobs: {a: {every: 1s, count: 2, cancel_after: 1s}}"), "s.yaml:2:", "for a single job"
    ),
    "too many jobs": (
        with_jobs("", "jobs: {a: {every: 1s, count: 60000}, b: {every: 1s, count: 60000}}"), "s.yaml:2:",
        "more than 100000 jobs",
    ),
    "clash of names": (with_jobs("", "jobs: {a: {every: 1s, count: 2}, a1: {}}"), "s.yaml:2:", "two jobs 'a1'"),
    "job name": (with_jobs("", "jobs: {1: {}}"), "s.yaml:2:", "'1' is not a name"),
    "duplicate job": ("format: 1\njobs:\n  a: {}\n  a: {}\n", "s.yaml:4:", "'a' was already given on line 3"),
    "held back": (with_jobs("", "jobs: {a: {held_back: true}}"), "s.yaml:2:", "it would never be sent"),
    "job without value": ("format: 1\njobs:\n  a:\n", "s.yaml:3:", "expected a mapping, got null"),
    "17 workers": (with_jobs(f"workers: [{', '.join(f'w{n}' for n in range(17))}]"), "s.yaml:3:", "at most 16"),
    "two workers of a name": (with_jobs("workers: [w1, w1]"), "s.yaml:3:", "two workers 'w1'"),
    "reserved name": (with_jobs("workers: [queue]"), "s.yaml:3:", "another actor has that name"),
    "workers as text": (with_jobs("workers: w1"), "s.yaml:3:", "workers: expected a list, got 'w1'"),
    "processor": (with_jobs("processors: {tool: lib/x}"), "s.yaml:3:", "`module:name` or `path.ts#name`"),
    "processor with globals in Python": (
        with_jobs("processors: {tool: {run: 'm:f', globals: {x: '1'}}}"),
        "s.yaml:3:",
        "globals, stubs and fetch are for TypeScript, and 'm:f' is Python",
    ),
    "processor without its name": (
        with_jobs("processors: {tool: {stubs: {}}}"), "s.yaml:3:", "the key 'run' in processors.tool is missing",
    ),
    "processor of another type": (
        with_jobs("processors: {tool: 3}"), "s.yaml:3:",
        "processors.tool: expected text, or a mapping with `run`, got the number 3",
    ),
    "wrong key in a processor named like a key": (
        with_jobs("processors: {stubs: {run: m:f, rn: x}}"), "s.yaml:3:",
        "unknown key 'rn' in processors.stubs (did you mean 'run'?). Known keys: run, root, globals, stubs",
    ),
    "no workers at all": (with_jobs("workers: []"), "s.yaml:3:", "workers: at least 1 must be there, got 0"),
    "a queue in a file": ("format: 1\nqueue: q\nenqueue: x\nclaim: y\n", "s.yaml:1:", "job-harness explore s.yaml"),
    "no target": (with_jobs("application: x"), "s.yaml:3:", "application: expected `module:factory`, `pa"),
    "surrogate in a target": (with_jobs('application: "\\ud800"'), "s.yaml:3:", "text without lone surrogates"),
    "processor of no job": (with_jobs("processors: {tol: m:f}"), "s.yaml:3:", "no job has the tool 'tol'"),
    "scripted and real": (
        with_jobs("processors: {tool: m:f}", "jobs: {a: {outcomes: fail}}"), "s.yaml:2:", "for scripted jobs"
    ),
    "no such step": (with_jobs("steps:\n  - w1 claims a\n  - w1 clams a"), "s.yaml:5:", "no such step: 'w1 clams a'"),
    "step that is no text": (with_jobs("steps: [{a: b}]"), "s.yaml:3:", "expected a step"),
    "step with unknown job": (with_jobs("steps: [w1 claims b]"), "s.yaml:3:", "no such job: 'b'"),
    "step with unknown worker": (with_jobs("steps: [w2 claims a]"), "s.yaml:3:", "no such actor: 'w2'"),
    "the queue claims": (with_jobs("steps: [queue claims a]"), "s.yaml:3:", "queue is not a worker"),
    "answer of a start": (
        with_jobs("steps:\n  - w1 claims a\n  - w1 starts a -> refused"), "s.yaml:5:", "leave out `-> refused`"
    ),
    "poll of a job": (with_jobs("steps: [w1 polls a]"), "s.yaml:3:", "write `w1 claims a` if it has to get a"),
    "job before a claim": (
        with_jobs("steps: [w1 pauses before claiming a]"), "s.yaml:3:", "leave out 'a' after `before claiming`"
    ),
    "acting while down": (with_jobs("steps:\n  - crash w1\n  - w1 claims a"), "s.yaml:5:", "went down on line 4"),
    "restart of the living": (with_jobs("steps: [restart w1]"), "s.yaml:3:", "w1 is alive"),
    "continue without pause": (with_jobs("steps: [w1 continues]"), "s.yaml:3:", "was not paused"),
    "worker that never starts": (
        with_jobs("env: {USE_PGBOSS_WORKERS: null}\nsteps: [w1 claims a]"), "s.yaml:4:", "w1 never starts"
    ),
    "bad duration in a step": (with_jobs("steps: [advance 15]"), "s.yaml:3:", "'15' is not a duration"),
    "expectation of no job": (with_jobs("expect: {b: {status: FAILED}}"), "s.yaml:3:", "no such job: 'b'"),
    "expectation of the cron": (with_jobs("expect: {cron: {401: 0}}"), "s.yaml:3:", "cron"),
    "status": (with_jobs("expect: {a: {status: COMPLETE}}"), "s.yaml:3:", "did you mean 'COMPLETED'?"),
    "status in a path": (with_jobs("expect: {a: {path: [DONE]}}"), "s.yaml:3:", "'DONE' is not accepted"),
    "null output": (with_jobs("expect: {a: {output: null}}"), "s.yaml:3:", "has no value; give one"),
    "gap": (with_jobs("expect: {a: {gaps: [60s]}}"), "s.yaml:3:", "the shortest and the longest wait as 60s..122s"),
    "gap the wrong way round": (with_jobs("expect: {a: {gaps: [2s..1s]}}"), "s.yaml:3:", "an empty gap"),
    "negative runs": (with_jobs("expect: {a: {runs: -1}}"), "s.yaml:3:", "expected at least 0, got -1"),
    "anomaly": (
        with_jobs("controls:\n  - {settings: {lease: 1s}, finds: concurent_execution}"), "s.yaml:4:",
        "did you mean 'concurrent_execution'?",
    ),
    "control without a wrong": (with_jobs("controls: [{finds: job_lost}]"), "s.yaml:3:", "needs a wrong queue"),
    "tape without what": (with_jobs("tape: [{at: time}]"), "s.yaml:3:", "'do' in tape.0 is missing"),
    "tab": ("format: 1\njobs:\n\ta: {}\n", "s.yaml:3:", "a tab cannot indent"),
    "broken in the middle": ("format: 1\njobs: {a: {}\nsteps: []\nexpect: }\n", "s.yaml:3:", "not valid YAML"),
    "two documents": ("format: 1\n---\nformat: 1\n", "s.yaml:2:", "a second document starts here"),
    "YAML 1.1": ("%YAML 1.1\n---\nformat: 1\n", "s.yaml:2:", "scenarios are YAML 1.2"),
    "no UTF-8": (b"format: 1\ntitle: \xff\n", "s.yaml:2:", "0xff is not UTF-8"),
    "NUL in the file": (b"format: 1\ntitle: a\x00b\n", "s.yaml:2:", "'\\x00' may not stand in a YAML file"),
    "tag": ("format: 1\njobs: !!python/object {}\n", "s.yaml:2:", "without a tag"),
    "merge key": ("format: 1\njobs:\n  a: &a {}\n  b: {<<: *a}\n", "s.yaml:4:", "merge keys"),
    "unknown alias": ("format: 1\njobs: *jobs\n", "s.yaml:2:", "was never anchored"),
    "alias of itself": ("format: 1\njobs: &jobs {a: *jobs}\n", "s.yaml:2:", "contains itself"),
    "anchor bomb": (bomb(), "s.yaml:6:", "expand to more than 100000 values"),
    "aliases that nest": (
        "".join(f"a{n}: &n{n} {'[' * 40}{f'*n{n - 1}' if n else 1}{']' * 40}\n" for n in range(30)),
        "s.yaml:2:",
        "nested deeper than 60",
    ),
    "deep nesting": ("format: 1\njobs: " + "[" * 5000 + "]" * 5000, "s.yaml:2:", "nested deeper than 60"),
    "list as a key": ("format: 1\n? [a]\n: 1\n", "s.yaml:2:", "a key is text"),
    "endless number": ("format: 1\njobs: {a: {priority: " + "9" * 5000 + "}}\n", "s.yaml:2:", "more than 1000 digits"),
    "priority": (with_jobs("", "jobs: {a: {priority: 9223372036854775808}}"), "s.yaml:2:", "at most 92233720368547758"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_scenario_is_refused_with_its_line(name: str) -> None:
    text, where, what = BAD[name]
    message = refusal(text)
    assert any(line.startswith(where) and what in line for line in message.splitlines()), message


OTHER_VALUES = ["3", "-1", "true", "null", "[]", "{}", "x", "[[1]]", "{a: {b: 1}}", "''"]
THEIR_WORDS = re.compile(r"function-|Part\b|Input|should|valid |validation|None|True|False|unable|instance")


def test_no_mistake_is_told_in_the_words_of_a_library() -> None:
    """Every key, with values of every type: what is said is about the file, in its own words."""
    parts = {"jobs: {{a: {{{key}: {value}}}}}": JobPart, "expect: {{a: {{{key}: {value}}}}}": ExpectPart}
    parts |= {"settings: {{{key}: {value}}}": SettingsPart, "processors: {{tool: {{{key}: {value}}}}}": ProcessorPart}
    parts |= {"tape: [{{{key}: {value}}}]": DeviationPart, "{key}: {value}": ScenarioPart}
    lines = {
        form.format(key=key, value=value)
        for form, part in parts.items()
        for key in part.model_fields
        for value in OTHER_VALUES
    }
    told = 0
    for line in sorted(lines - {f"format: {value}" for value in OTHER_VALUES}):
        try:
            read_scenario_text(f"format: 1\n{'' if line.startswith('jobs') else 'jobs: {a: {}}'}\n{line}\n")
        except ScenarioError as error:
            told += 1
            for problem in error.problems:
                assert not THEIR_WORDS.search(problem.message), f"{line}\n{problem.message}"
    assert told > 300


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("max_attempts=0", "max_attempts=0: expected at least 1, got 0"),
        ("retry_backoff=3", "retry_backoff=3: expected true or false, got the number 3"),
        ("lease=", "lease=: lease has no value"),
    ],
)
def test_a_setting_of_the_command_line_is_refused_in_the_same_words(change: str, told: str) -> None:
    with pytest.raises(UsageError, match=f"^{told}"):
        parse_changes([change])


def test_many_mistakes_are_told_together_in_the_order_of_the_file() -> None:
    message = refusal(with_jobs("workers: w1\nsettings: {lease: 3, foo: 1}\nsteps: [bar]\nqueu: x"))
    assert [line.split(": ")[0] for line in message.splitlines() if line.startswith("s.yaml")] == [
        "s.yaml:3", "s.yaml:4", "s.yaml:4", "s.yaml:5", "s.yaml:6",
    ]  # fmt: skip


def test_no_more_than_twenty_mistakes_are_shown() -> None:
    message = refusal(with_jobs("steps:\n" + "  - no\n" * 200))
    assert "and 180 more problems" in message
    assert message.count("Steps look like") == 1


def test_an_unknown_wrong_queue_is_refused_where_the_queues_are_known() -> None:
    text = with_jobs("queue: stale-complet")
    assert "did you mean 'stale-complete'?" in refusal(text, queues=["stale-complete"])
    assert read_scenario_text(text).queue == "stale-complet"


def test_a_file_over_a_megabyte_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"format: 1\n" + b"#" * 10_000_000)
    with pytest.raises(ScenarioError, match="1 000 000"):
        read_scenario(path)


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_scenario(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="is not a regular file"):
        read_scenario(tmp_path)
