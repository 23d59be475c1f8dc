"""What doing a statement twice means is read off its text, whichever dialect or library wrote it."""

from __future__ import annotations

import pytest

from job_harness.subjects.processors.sql_statement import Nature, SqlStatement, statement_of

STATEMENTS = {
    Nature.ADDS: """
        UPDATE acc SET balance = balance - 5 WHERE id = 1
        UPDATE "acc" SET "balance" = ("acc"."balance" - 5) WHERE "acc"."id" = 1
        UPDATE `acc` SET `balance` = `balance` + 1
        UPDATE [acc] SET [limit] = [limit] - 1
        UPDATE acc SET name = 'x = y', balance = -5 + balance
        UPDATE acc SET items = array_append(items, 5)
        UPDATE shop.acc AS a SET (n, seen) = (a.n + 1, now())
        UPDATE acc SET n = COALESCE(n, 0) + 1
        UPDATE acc SET n = GREATEST(n + 1, 5)
        UPDATE acc SET n = CASE WHEN n IS NULL THEN 1 ELSE n + 1 END
        UPDATE acc SET n = CASE WHEN n = 1 THEN 0 ELSE 1 END
        UPDATE acc SET n = (SELECT max(n) + 1 FROM acc)
        UPDATE acc SET paid = NOT paid
        UPDATE OR IGNORE main.app.acc SET n = n + 1
        UPDATE acc a LEFT JOIN orders AS o ON o.acc = a.id SET a.n = a.n - o.n WHERE o.id = 7
        WITH due AS (SELECT id FROM acc FOR UPDATE SKIP LOCKED) UPDATE acc SET n = n + 1 FROM due
        INSERT INTO acc (n) VALUES (1) ON CONFLICT (id) DO UPDATE SET n = acc.n + EXCLUDED.n
        INSERT INTO acc (n) VALUES (1) ON DUPLICATE KEY UPDATE n = n + VALUES(n)
        MERGE INTO acc a USING s ON s.id = a.id WHEN MATCHED THEN UPDATE SET n = a.n + s.n
        INSERT INTO biometric_payments (n) VALUES (1)
        INSERT INTO payments SELECT id FROM users WHERE NOT EXISTS (SELECT 1 FROM bans WHERE bans.u = users.id)
    """,
    Nature.SETS: """
        UPDATE acc SET n = n, seen = COALESCE(seen, now()), m = CAST(m AS int), k = (k::text)
        UPDATE acc SET state = CASE WHEN state = 'new' THEN 'paid' ELSE state END, n = CASE WHEN late THEN 1 ELSE 2 END
        UPDATE acc SET total = (SELECT sum(total) FROM lines WHERE total > 1)
        UPDATE acc SET balance_after = balance - 5, data = jsonb_set(data, '{a}', '1') WHERE n = n + 1
        UPDATE acc SET note = $$ note = note + 1 $$
        INSERT INTO acc VALUES (1) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n + 1, m = GREATEST(acc.m, EXCLUDED.m)
        INSERT INTO acc (n) VALUES (1) ON DUPLICATE KEY UPDATE n = VALUES(n)
        MERGE INTO acc a USING s ON s.id = a.id WHEN MATCHED THEN UPDATE SET n = s.n + 1 WHEN s.m THEN DELETE
        INSERT INTO payments (id) SELECT 7 WHERE NOT EXISTS (SELECT 1 FROM payments WHERE id = 7)
        UPDATE order_history SET done = 1
        INSERT IGNORE INTO payments (id) VALUES (7)
        UPDATE acc JOIN orders ON orders.acc = acc.id SET acc.n = orders.n + 1
    """,
    Nature.TELLS: """
        INSERT INTO job_attempts (job) VALUES (1)
        INSERT INTO "AuditLog" (a) VALUES (1)
        INSERT INTO audit.events VALUES (1)
    """,
    Nature.MAY_TELL: """
        INSERT INTO order_history (a) VALUES (1)
        INSERT INTO "OrderHistory" (a) VALUES (1)
        INSERT INTO journal_entries (amount) VALUES (1)
        INSERT INTO traces_of_money (a) VALUES (1)
    """,
}
CASES = [(nature, sql.strip()) for nature, text in STATEMENTS.items() for sql in text.strip().splitlines()]


@pytest.mark.parametrize(("nature", "sql"), CASES)
def test_a_statement_is_judged_by_what_doing_it_twice_leaves_behind(nature: Nature, sql: str) -> None:
    found = statement_of(sql)
    assert found is not None
    assert found.nature is nature


def test_a_savepoint_goes_by_its_name_without_quotes() -> None:
    assert statement_of('ROLLBACK TO SAVEPOINT "a"') == SqlStatement("", "", Nature.LOOKS, "to a")
