"""pgmq: the functions of its extension, in the SQL that its Python client installs, called as that client does.

A client that fails a message lets it become visible again, here after a second (`set_vt` of 1). A message is archived
when it is done, as the manual offers beside deleting it. No visibility timeout is extended: the row could not tell that
from a failure, and no client does it by itself.
"""

from __future__ import annotations

from queues.package import Package, block, replaced, with_values

QUEUE = "'jobs'"


def write(package: Package, settings: str) -> str:
    """Return the queue file of a release."""

    def statement(name: str) -> str:
        return package.one("pgmq/_sql.py", rf'\n{name} = (?:\(\s*)?(?:"""|")(.*?);?(?:"""|")').rstrip(";")

    message = "jsonb_build_object('job', :job::text, 'tool', :tool::text, 'input', :input::jsonb)"
    jobs = """
SELECT message->>'job' AS id, msg_id AS key, message->'input' AS input, message->>'tool' AS tool,
       CASE WHEN done THEN 'done' WHEN vt = last_read_at + :lease THEN 'taken' ELSE 'waits' END AS status,
       read_ct AS attempts, read_ct AS token, enqueued_at AS created_at, last_read_at AS started_at,
       CASE WHEN vt IS DISTINCT FROM last_read_at + :lease THEN vt END AS start_after,
       CASE WHEN NOT done AND vt = last_read_at + :lease THEN vt END AS lease_until,
       done_at AS completed_at
FROM (SELECT msg_id, read_ct, enqueued_at, last_read_at, vt, message, false AS done, NULL::timestamptz AS done_at
      FROM pgmq.q_jobs
      UNION ALL
      SELECT msg_id, read_ct, enqueued_at, last_read_at, vt, message, true, archived_at FROM pgmq.a_jobs) AS m
ORDER BY msg_id"""
    create = with_values(statement("CREATE_QUEUE"), QUEUE)
    return (
        f"format: 1\nqueue: pgmq of pgmq-py {package.version}\n"
        + block("schema", f"{package.text('pgmq/sql/pgmq.sql')}\n{create}")
        + "tables: [pgmq.q_jobs, pgmq.a_jobs]\n"
        + f"settings: {{{settings}}}\n"
        + block("enqueue", with_values(statement("SEND_WITH_DELAY_TZ"), QUEUE, message, ":start_after"))
        + block(
            "claim",
            replaced(
                with_values(statement("READ"), QUEUE, ":lease_seconds", ":limit"),
                "SELECT msg_id, read_ct",
                "SELECT msg_id AS key, read_ct AS token",
            ),
        )
        + block("complete", with_values(statement("ARCHIVE"), QUEUE, ":job"))
        + block("fail", with_values(statement("SET_VT_INT"), QUEUE, ":job", "1"))
        + "takes_back: inside claim\nfencing: false\nfinal_errors: false\ndesign: [retries forever]\n"
        + block("jobs", jobs)
        + "status: {waits: PENDING, taken: PROCESSING, done: COMPLETED}\n"
    )
