"""The format of queue files: SQL cut into statements, the schema for editors, and the page that describes all of it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from job_harness.core.history.outcome import DONE
from job_harness.core.model.design import Design
from job_harness.core.model.duration import MINUTE, SECOND
from job_harness.core.model.settings import Settings
from job_harness.core.port import Capabilities, Claim
from job_harness.core.scenario.document import read_document
from job_harness.core.sim.choices import Uniform
from job_harness.core.sim.clock import Clocks
from job_harness.core.target import Target
from job_harness.doors.cli import main
from job_harness.engines.queue_file.document import (
    COLUMNS,
    OF_VERB,
    SETTINGS,
    QueueFilePart,
    json_schema,
    output_names,
    read_queue_file,
)
from job_harness.engines.queue_file.draft import TableColumn, draft
from job_harness.engines.queue_file.facts import doubts
from job_harness.engines.queue_file.rows import Remembered, RowReader
from job_harness.engines.queue_file.statement import QueueFileError, SqlSource, read_statements, up_half
from job_harness.engines.queue_file.verbs import STALE, Planned, TableVerbs, VerbResult, outcome_of_statements, stops
from job_harness.errors import UsageError
from job_harness.search.workload import draw

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "queues").glob("*.yaml"))
PAGE = (ROOT / "docs" / "queue_files.md").read_text(encoding="utf-8")


def statements(text: str) -> list[tuple[str, tuple[str, ...]]]:
    source = SqlSource.whole(text, "q.yaml", "claim")
    return [(item.sql.decode(), item.names) for item in read_statements(source, {"job", "now", "limit"})]


CUT = {
    "SELECT :job::text, ':job', \":job\" -- :job": [("SELECT $1::text, ':job', \":job\" -- :job", ("job",))],
    "SELECT $$ ; :job $$, $a$ $$ ; $a$, :job, :now, :job": [
        ("SELECT $$ ; :job $$, $a$ $$ ; $a$, $1, $2, $1", ("job", "now"))
    ],
    "SELECT 1; /* ; */ UPDATE t SET a = CURRENT_TIMESTAMP;": [
        ("SELECT 1", ()),
        ("UPDATE t SET a = now()", ()),
    ],
    "SELECT id; UPDATE t SET x = :rows_id WHERE id = :row_id": [
        ("SELECT id", ()),
        ("UPDATE t SET x = $1 WHERE id = $2", ("rows_id", "row_id")),
    ],
    "SELECT E'\\':job', x := :limit": [("SELECT E'\\':job', x := $1", ("limit",))],
    "/* a /* b; */ :c */ SELECT :job": [("SELECT $1", ("job",))],
    "SELECT a[1:upper], b[lower:upper], ARRAY[:limit, :job]": [
        ("SELECT a[1:upper], b[lower:upper], ARRAY[$1, $2]", ("limit", "job"))
    ],
    "SELECT CURRENT_TIMESTAMP (3), j.localtime, 'now'::text, a->>'now'": [
        ("SELECT now()::timestamptz (3), j.localtime, 'now'::text, a->>'now'", ())
    ],
}


@pytest.mark.parametrize("text", CUT)
def test_sql_is_cut_where_postgresql_would_cut_it(text: str) -> None:
    assert [(sql.rstrip(), names) for sql, names in statements(text)] == CUT[text]


@pytest.mark.parametrize(
    "time", ["LOCALTIMESTAMP", "localtime", "current_date", "CURRENT_TIME(3)", "timeofday()", "'now'", "'Today '::date"]
)
def test_the_machines_time_in_a_verb_is_refused_at_its_place(time: str) -> None:
    with pytest.raises(QueueFileError, match=r"q\.yaml:1: claim: .* is the machine's time") as told:
        statements(f"SELECT 1 WHERE until < {time}")
    assert told.value.message.endswith(f"\n    SELECT 1 WHERE until < {time}\n                           ^")
    assert (told.value.hint or "").startswith("Write now()")


def test_a_position_of_postgresql_is_the_character_of_the_file() -> None:
    text = "UPDATE jobs\nSET a = :job, b = CURRENT_TIMESTAMP\nWHERE wrong = :limit"
    (statement,) = read_statements(SqlSource.whole(text, "q.yaml", "claim", first=7), {"job", "limit"})
    sent = statement.sql.decode()
    assert statement.at(sent.index("wrong")) == text.index("wrong")
    assert statement.source.place(text.index("wrong")) == "q.yaml:9"
    told = str(statement.source.error("no such column", at=statement.at(sent.index("wrong"))))
    assert told == "q.yaml:9: claim: no such column\n    WHERE wrong = :limit\n          ^"


def test_the_columns_of_a_select_are_told_from_its_text() -> None:
    source = SqlSource.whole(
        "WITH x AS (SELECT 1 AS no) SELECT a.id, (SELECT b FROM c) AS key, 'x,y' AS \"status\", max(f(1, 2)) n, "
        "t.output::pg_catalog.jsonb, until::timestamp (3) with time zone, error :: text[3] worker, "
        "tool::text AS x, a IS DISTINCT FROM b AS differs FROM t",
        "q.yaml",
        "jobs",
    )
    assert output_names(source) == ["id", "key", "status", "n", "output", "until", "worker", "x", "differs"]
    with pytest.raises(QueueFileError, match=r"it shows `\*`"):
        output_names(SqlSource.whole("SELECT j.*, 1 AS x FROM j", "q.yaml", "jobs"))


def test_a_delay_that_each_job_is_sent_with_is_not_fixed_and_what_the_cases_word_otherwise_is_told(
    tmp_path: Path,
) -> None:
    path = tmp_path / "q.yaml"
    path.write_text(
        "format: 1\nqueue: q\nschema: |\n  CREATE TABLE jobs (id text, wait interval);\n"
        "enqueue: INSERT INTO jobs VALUES (:job, :retry_delay)\nclaim: SELECT id FROM jobs\n"
        "complete: SELECT 1\nfail: SELECT 1\npurge: SELECT 1\ntakes_back: inside claim\n"
        "jobs: SELECT id, 'PENDING' AS status, 0 AS attempts FROM jobs\n"
    )
    file = read_queue_file(str(path))
    assert "retry_delay" not in file.fixed
    assert {"retry_backoff", "stuck_timeout"} <= file.fixed
    differences = file.contract(file.columns).differences
    assert differences["crashes/before_completing"].startswith(f"{path}:10: ")
    assert differences["maintenance/rescues_stuck_job"].startswith(f"{path}:9: ")
    assert "crashes/every_attempt_crashes" not in differences, "its error may have any words"


@pytest.mark.parametrize(
    ("lease", "beats", "kept"),
    [
        (":lease", "30s", Settings(heartbeat_interval=MINUTE)),
        ("'90s'", "30s", Settings(lease=90 * SECOND, heartbeat_interval=30 * SECOND)),
        ("'90s'", "0s", Settings(lease=90 * SECOND, heartbeat_interval=MINUTE)),
    ],
)
def test_heartbeats_that_keep_a_lease_written_into_the_sql_are_as_the_file_says(
    lease: str, beats: str, kept: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "q.yaml"
    path.write_text(
        "format: 1\nqueue: q\nschema: |\n  CREATE TABLE jobs (id text, until interval);\n"
        f"settings: {{lease: 90s, job_timeout: 10m, heartbeat_interval: {beats}}}\n"
        f"enqueue: INSERT INTO jobs VALUES (:job)\nclaim: UPDATE jobs SET until = {lease} RETURNING id\n"
        "complete: SELECT 1\nfail: SELECT 1\nheartbeat: SELECT 1\ntakes_back: never\n"
        "jobs: SELECT id, 'PENDING' AS status, 0 AS attempts FROM jobs\n"
    )
    contract = read_queue_file(str(path)).contract(frozenset())
    held = contract.held(Settings(heartbeat_interval=MINUTE))
    assert (held.lease, held.heartbeat_interval) == (kept.lease, kept.heartbeat_interval)
    if beats != "0s" and lease != ":lease":
        with pytest.raises(UsageError, match="change it there, or take :lease in the statements"):
            contract.refuse({"heartbeat_interval": 0})


@pytest.mark.parametrize(
    ("order", "oldest_first"),
    [
        ("priority DESC, sent", True),
        ("j.priority DESC NULLS LAST, j.id", True),
        ("priority DESC, run_at, sent", False),
        ("priority DESC, sent, run_at", True),
        ("priority DESC", False),
    ],
)
def test_a_claim_that_orders_by_when_a_job_may_run_promises_no_order_by_when_it_came(
    order: str, oldest_first: bool, tmp_path: Path
) -> None:
    path = tmp_path / "q.yaml"
    path.write_text(
        "format: 1\nqueue: q\nschema: |\n  CREATE TABLE jobs (id text, run_at timestamptz, sent timestamptz);\n"
        f"enqueue: INSERT INTO jobs VALUES (:job)\nclaim: SELECT id FROM jobs j ORDER BY {order} LIMIT 1\n"
        "complete: SELECT 1\nfail: SELECT 1\ntakes_back: inside claim\n"
        "jobs: SELECT id, 'PENDING' AS status, 0 AS attempts, j.run_at AS start_after, sent AS created_at FROM jobs j\n"
    )
    file = read_queue_file(str(path))
    assert file.contract(file.columns).oldest_first is oldest_first


def test_a_design_is_a_word_of_the_contract_and_a_sweep_may_be_beside_a_claim_that_takes_over(
    tmp_path: Path,
) -> None:
    path = tmp_path / "q.yaml"
    text = (
        "format: 1\nqueue: q\nschema: |\n  CREATE TABLE jobs (id text);\nenqueue: INSERT INTO jobs VALUES (:job)\n"
        "claim: SELECT id FROM jobs LIMIT 1\ncomplete: SELECT 1\nfail: SELECT 1\nexpire: SELECT 1\n"
        "takes_back: inside claim\njobs: SELECT id, 'PENDING' AS status, 0 AS attempts FROM jobs\n"
    )
    path.write_text(text)
    with pytest.raises(QueueFileError, match="and there is an `expire`"):
        read_queue_file(str(path))
    path.write_text(text + "design: [buries by sweep, cancels by mark]\n")
    file = read_queue_file(str(path))
    assert file.capabilities(file.columns).takes_back_in_claim
    assert file.contract(file.columns).designs == {Design.BURIES_BY_SWEEP, Design.CANCELS_BY_MARK}
    path.write_text(text + "design: [cancels by marking]\n")
    with pytest.raises(QueueFileError, match=r"q.yaml:\d+: design.*cancels by mark"):
        read_queue_file(str(path))


@pytest.mark.parametrize(
    ("given", "timeout", "longest"),
    [
        ("lease: 10s", 9 * SECOND, {}),
        ("lease: 10s, heartbeat_interval: 1s", 30 * SECOND, {}),
        ("lease: 5m, heartbeat_interval: 1s", 600 * SECOND, {}),
        ("lease: 10s, job_timeout: none", 20 * SECOND, {}),
        ("lease: 10s..12s, retry_delay: 1s..2s", 9 * SECOND, {"lease": 12 * SECOND, "retry_delay": 2 * SECOND}),
    ],
)
def test_a_file_says_by_its_lease_how_long_a_job_runs(
    given: str, timeout: int, longest: dict[str, int], tmp_path: Path
) -> None:
    text = REGISTERS.replace("takes_back: never", "takes_back: inside claim")
    (path := tmp_path / "q.yaml").write_text(f"{text}settings: {{{given}}}\n")
    file = read_queue_file(str(path))
    assert (file.settings.job_timeout, file.longest) == (timeout, longest)
    assert bool(file.contract(file.columns).unseen) == (file.given == {"lease"} | longest.keys())


def test_no_job_has_so_many_attempts_that_a_wait_without_a_bound_lasts_for_years(tmp_path: Path) -> None:
    (path := tmp_path / "q.yaml").write_text(f"{REGISTERS}settings: {{retry_delay: 2m, retry_delay_max: none}}\n")
    settings = read_queue_file(str(path)).settings
    drawn = [draw(Uniform(seed), settings, Capabilities(own_attempts=True)).scenario for seed in range(400)]
    many = [job.max_attempts or 0 for scenario in drawn for job in scenario.jobs]
    assert max(many) == 22


@pytest.mark.parametrize(("given", "told"), [("0s", "longer than 0"), ("3s..1s", "the shortest wait comes first")])
def test_a_lease_that_cannot_be_is_an_error_at_its_line(given: str, told: str, tmp_path: Path) -> None:
    (path := tmp_path / "q.yaml").write_text(f"{REGISTERS}settings: {{lease: {given}}}\n")
    with pytest.raises(QueueFileError, match=rf"q\.yaml:\d+: .*{told}"):
        read_queue_file(str(path))


@pytest.mark.parametrize(
    "mark",
    [
        "-- {} Migration",
        "--- {} Migration: no a",
        "-- +goose {}",
        "-- +migrate {}",
        "-- migrate:{} transaction:false",
        "-- migrate:{}",
        "--{}",
    ],
)
def test_of_a_migration_the_way_down_is_left_out_and_lines_keep_their_places(mark: str) -> None:
    up, down = mark.format("Up"), mark.format("down")
    text = f"{up}\nCREATE TABLE a (); -- down\n{down}\nDROP TABLE a;\n{up}\n-- down the road\nCREATE TABLE b ();"
    assert up_half(text) == text.replace(down, "").replace("DROP TABLE a;", "")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_valid_under_the_schema_for_editors(path: Path) -> None:
    jsonschema.validate(read_document(path.read_bytes(), str(path)).data, json_schema())
    assert read_queue_file(str(path)).verbs


def test_the_schema_refuses_what_the_reader_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "queue"]) == 0
    schema = json.loads(capsys.readouterr().out)
    right = read_document(EXAMPLES[0].read_bytes(), "").data
    for wrong in ({"expires": "x"}, {"takes_back": "later"}, {"without": {"late": "so"}}, {"format": 2}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**right, **wrong}, schema)


def test_the_page_tells_of_every_key_parameter_and_column() -> None:
    for name, field in QueueFilePart.model_fields.items():
        assert f"`{field.alias or name}`" in PAGE
    for name in (*COLUMNS, *(f":{name}" for names in OF_VERB.values() for name in names if "_seconds" not in name)):
        assert f"`{name}`" in PAGE, name
    for name in SETTINGS:
        assert f"`:{name.removesuffix('_seconds')}`" in PAGE, name


@pytest.mark.parametrize(
    ("labels", "means", "asked"),
    [
        (
            ("new", "sending", "sent", "dead"),
            "status: {new: PENDING, sending: PROCESSING, sent: COMPLETED, dead: FAILED}",
            "# TODO: check that sending means PROCESSING, sent means COMPLETED: this is a guess.",
        ),
        (
            ("new", "taken", "sent", "dead"),
            "status: {new: PENDING, TODO_PROCESSING: PROCESSING, TODO_COMPLETED: COMPLETED, dead: FAILED}",
            "# TODO: which of new, taken, sent, dead means PROCESSING? Replace TODO_PROCESSING by it,",
        ),
        (
            ("new", "it's sending", "yes: sent", "dead"),
            """status: {new: PENDING, "it's sending": PROCESSING, "yes: sent": COMPLETED, dead: FAILED}""",
            "WHERE id = :job AND status = 'it''s sending'\n",
        ),
        (
            (),
            "status: {queued: PENDING, running: PROCESSING, done: COMPLETED, failed: FAILED}",
            "# TODO: your statuses, here and in the statements: the schema does not list any.",
        ),
    ],
)
def test_a_draft_asks_what_statuses_mean_that_it_can_only_guess(
    labels: tuple[str, ...], means: str, asked: str, tmp_path: Path
) -> None:
    def column(name: str, kind: str = "text", *, key: bool = False, labels: tuple[str, ...] = ()) -> TableColumn:
        return TableColumn(name, kind, True, None, key, False, labels, "", key)

    status = column("status", "st" if labels else "text", labels=labels)
    table = (column("id", "bigint", key=True), status, column("payload", "jsonb"), column("locked_until"))
    text = draft({"mails": table}, schema="connection: env:MAILS")

    assert f"\n{means}\n" in text
    assert asked in text
    path = tmp_path / "queue.yaml"
    path.write_text(text, encoding="utf-8")
    if "TODO_" not in text:
        assert len(read_queue_file(str(path)).status) == 4
        return
    with pytest.raises(QueueFileError, match="TODO_PROCESSING is what the draft writes for a status that it does not"):
        read_queue_file(str(path))


def test_a_draft_asks_which_numbers_are_statuses() -> None:
    columns = (
        TableColumn("id", "bigint", True, None, True, False, (), "", True),
        TableColumn("status", "smallint", True, "0", False, False, (), "", False),
        TableColumn("tries", "integer", True, "0", False, False, (), "", False),
        TableColumn("payload", "jsonb", True, None, False, False, (), "", False),
    )
    text = draft({"mail": columns}, schema="schema: mail.sql")
    assert "# TODO: which smallint means PENDING? Replace TODO_PENDING by it," in text
    assert "THEN 'TODO_PENDING' ELSE 'TODO_FAILED' END::smallint" in text
    assert "status::text AS status" in text


def test_a_draft_takes_the_only_column_of_a_kind_for_what_it_may_be() -> None:
    def column(name: str, kind: str, preset: str | None = None, *, key: bool = False) -> TableColumn:
        return TableColumn(name, kind, True, preset, False, False, (), "", key)

    table = (
        column("label_id", "uuid", "gen_random_uuid()", key=True),
        column("shipment", "jsonb"),
        column("state", "text", "'waiting'::text"),
        column("tries", "smallint", "0"),
        column("printing_since", "timestamp with time zone"),
        column("made_at", "timestamp with time zone", "now()"),
    )
    text = draft({"labels": table}, schema="schema: labels.sql")
    assert "INSERT INTO labels (label_id, shipment, printing_since)\n  VALUES (:job, :input, " in text
    assert "ORDER BY made_at, label_id" in text
    assert "printing_since <= now() - :lease" in text
    two = draft({"labels": (*table, column("parcel", "jsonb"))}, schema="schema: labels.sql")
    assert "(:job, '{}', " in two, "which of two documents is the input, only their owner knows"


SAID: dict[str, tuple[VerbResult, bool, bool]] = {
    "it changed nothing": (VerbResult("UPDATE", 0, None), True, True),
    "it changed a row, whose column is NULL": (VerbResult("UPDATE", 1, [{"error": None}]), False, False),
    "it found a row in the place of putting one in": (VerbResult("INSERT", 1, [{"new": False}]), False, True),
    "a function did nothing": (VerbResult("SELECT", 1, [{"done": False}]), True, True),
    "a function found no row": (VerbResult("SELECT", 1, [{"id": None}]), True, True),
    "a count is none": (VerbResult("SELECT", 1, [{"count": 0}]), False, True),
    "a row was found": (VerbResult("SELECT", 1, [{"id": 0, "done": False}]), False, False),
}
"""By what a statement says: whether its verb ends there, where others follow, and whether the last one refuses it."""


@pytest.mark.parametrize("name", SAID)
def test_what_a_statement_says_of_itself_ends_a_verb_or_refuses_it(name: str) -> None:
    result, ends, refuses = SAID[name]
    assert stops("complete", result, last=False) is ends
    assert outcome_of_statements([result]) is (STALE if refuses else DONE)


def test_the_holder_of_a_job_is_who_claimed_it_whatever_its_row_calls_him() -> None:
    reader = RowReader(
        read_queue_file(str(EXAMPLES[0])), frozenset({"id", "status", "attempts", "worker"}), max_attempts=3, clock=int
    )

    def holder(shown: str | None, *, claimer: str | None = None, attempts: int = 1) -> str | None:
        reader.claimer = claimer
        row = {"id": "a", "status": "running", "attempts": attempts, "worker": shown}
        return reader.views([row])["a"].worker

    assert holder("host-1:4711", claimer="w1") == holder("host-1:4711") == "w1"
    assert holder("host-1:4711", claimer="w2", attempts=2) == "w2", "all workers of a host may be called alike"
    assert holder("w1", claimer="w2", attempts=2) == "w1", "a claim that writes the name of another worker is one"
    assert holder("host-2:9", attempts=2) == "host-2:9", "nobody claimed it"


REGISTERS = """\
format: 1
queue: q
schema: CREATE TABLE jobs (id text, worker text); CREATE TABLE workers (name text PRIMARY KEY, beat_at timestamptz)
enqueue: INSERT INTO jobs VALUES (:job)
claim: |
  INSERT INTO workers VALUES (:process, now()) ON CONFLICT (name) DO UPDATE SET beat_at = now();
  UPDATE jobs SET worker = :process WHERE worker IS NULL RETURNING id
complete: SELECT 1 WHERE :process = 'w1'
fail: SELECT 1
takes_back: never
jobs: SELECT id, CASE WHEN worker IS NULL THEN 'PENDING' ELSE 'PROCESSING' END AS status, 1 + 0 AS attempts FROM jobs
"""


def test_a_worker_that_holds_what_it_never_reported_claims_as_a_new_process(tmp_path: Path) -> None:
    (path := tmp_path / "q.yaml").write_text(REGISTERS)
    file = read_queue_file(str(path))
    reader = RowReader(file, file.columns, max_attempts=3, clock=int)
    rows = [{"id": "a", "status": "PENDING", "attempts": 0}]
    verbs = TableVerbs(
        file,
        settings=Settings(),
        clocks=Clocks(),
        jitter=float,
        reader=reader,
        look=lambda: reader.views(rows),
        tells_twice=False,
    )

    def process(verb: str, *arguments: object) -> object:
        planned = verbs.plan(verb, arguments)
        assert isinstance(planned, Planned)
        return planned.values["process"]

    def taken(by: str, attempts: int) -> Claim:
        reader.claimer = by
        rows[:] = [{"id": "a", "status": "PROCESSING", "attempts": attempts}]
        token = reader.views(rows)["a"].token
        reader.claimer = None
        return Claim("a", attempts, token, by, "tool", 0)

    assert process("claim", "w1", 1) == "w1"
    first = taken("w1", 1)
    assert process("complete", first, None) == "w1"
    assert process("claim", "w1", 1) == "w1", "it reported what it held"
    second = taken("w1", 2)
    rows[:] = [{"id": "a", "status": "PENDING", "attempts": 2}]
    assert process("claim", "w1", 1) == process("claim", "w1", 1) == "w1.2", "it never reported a, which was taken back"
    assert process("claim", "w2", 1) == "w2"
    third = taken("w1", 3)
    assert [process("complete", claim, None) for claim in (first, second, third)] == ["w1", "w1", "w1.2"]
    reader.remembered.end_process("w1")
    assert process("claim", "w1", 1) == "w1.3"


def test_attempts_that_are_counted_at_the_end_are_shown_as_deliveries(tmp_path: Path) -> None:
    (path := tmp_path / "q.yaml").write_text(f"{REGISTERS}design: [counts at the end]\n")
    file = read_queue_file(str(path))
    assert not any("counts at the end" in told for told in doubts(file).values())
    reader = RowReader(file, file.columns, max_attempts=3, clock=int)

    def deliveries(status: str, shown: int) -> int:
        return reader.views([{"id": "a", "status": status, "attempts": shown}])["a"].attempts

    waits, runs = deliveries("PENDING", 0), deliveries("PROCESSING", 0)
    taken_back, again = deliveries("PENDING", 1), deliveries("PROCESSING", 1)
    assert [waits, runs, taken_back, again, deliveries("COMPLETED", 1)] == [0, 1, 1, 2, 2]


def test_a_claim_with_the_token_of_an_earlier_one_is_of_the_process_that_has_it_now() -> None:
    remembered = Remembered()
    remembered.owners["a", 1, None] = "w2"
    remembered.begin("w1", "a", 1, 7)
    remembered.end_process("w1")
    assert (remembered.process("w1", ("a", 1)), remembered.process("w1")) == ("w1", "w1.2")


def test_what_a_file_may_describe_otherwise_than_its_queue_is_told(tmp_path: Path) -> None:
    (path := tmp_path / "q.yaml").write_text(REGISTERS)
    file = read_queue_file(str(path))
    assert not file.contract(file.columns).notes
    held = {"stale_complete", "stale_fail", "job_vanished", "lost_update", "job_stuck"}
    counted = {"attempt_not_counted", "attempts_changed"}
    assert set(doubts(file)) == {
        *held,
        *counted,
        "attempt_overrun",
        "failed_early",
        "unique_key_shared",
        "terminal_job_revived",
        "completed_with_error",
        "error_lost",
    }
    path.write_text(f"{REGISTERS}design: [counts at the end]\n")
    assert "as token, or write `fencing: false`" in doubts(read_queue_file(str(path)))["token_reused"]
    path.write_text(REGISTERS.replace("(:process,", "(:worker,").replace("1 + 0 AS attempts", "tries AS attempts"))
    file = read_queue_file(str(path))
    assert [note.partition(", ")[0] for note in file.contract(file.columns).notes] == [
        f"{path}:6: claim keeps a row for :worker"
    ]
    assert all(doubts(file)[name].endswith("`design: [counts at the end]`") for name in counted)
    assert all("transaction of its claim" in doubts(file)[name] for name in held)
    words = {
        "unique_key_shared": "unique while it waits",
        "attempt_overrun": "checks after the claim",
        "terminal_job_revived": "runs again",
        "completed_with_error": "keeps all errors",
        "error_lost": "keeps no error",
    }
    assert all(doubts(file)[name].endswith(f"`design: [{word}]`") for name, word in words.items())


def test_a_queue_with_sessions_is_called_so_where_a_sentence_names_it() -> None:
    assert Target.parse("jobs/queue.yaml-gated").sentence == "jobs/queue.yaml with sessions"
    assert [Target.parse(name).sentence for name in ("queue.yaml", "pgboss-gated@10.4.2")] == [
        "queue.yaml",
        "pgboss-gated@10.4.2",
    ]


def test_a_draft_keeps_the_name_of_a_job_in_a_column_that_says_what_it_is_about() -> None:
    columns = (
        TableColumn("id", "bigint", True, None, True, False, (), "", True),
        TableColumn("status", "text", True, "'queued'", False, False, (), "", False),
        TableColumn("recipient", "text", True, None, False, False, (), "", False),
    )
    text = draft({"mail": columns}, schema="schema: mail.sql")
    assert "INSERT INTO mail (recipient)\n  VALUES (:job)" in text
    assert "SELECT recipient AS id, id AS key, status" in text
    assert "no statement" not in text
    keyed = TableColumn("unique_key", "text", False, None, False, False, (), "", False)
    assert "# Used by no statement here: unique_key. A" in draft({"mail": (*columns, keyed)}, schema="schema: mail.sql")
