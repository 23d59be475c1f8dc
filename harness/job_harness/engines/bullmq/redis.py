"""BullMQ on Redis, on a server whose clock is ours: how its jobs are seen, and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from job_harness.core.port import Contract, Known
from job_harness.engines.bullmq.queue import BullQueue, Row, contract
from job_harness.engines.foreign_queue import Opened
from job_harness.worlds.wire.database import milliseconds_of

PREFIX: Final = "bull:jobs:"
STALLED_CHECK: Final = f"{PREFIX}stalled-check"
"""This key keeps a second check for stalled jobs away until it ends."""

_FIELDS: Final = (
    "data", "opts", "name", "priority", "atm", "stc", "returnvalue", "failedReason", "deid", "timestamp", "processedOn",
    "finishedOn",
)  # fmt: skip
LOOK: Final = f"""
local found, prefix = {{}}, ARGV[1]
local function add(state, ids)
  for _, id in ipairs(ids) do
    local key, due, lock, ttl = prefix .. id, false, false, 0
    if state == 'delayed' then due = redis.call('ZSCORE', prefix .. state, id) end
    if state == 'active' then
      lock, ttl = redis.call('GET', key .. ':lock'), redis.call('PTTL', key .. ':lock')
    end
    table.insert(found, {{state, lock, ttl, due, redis.call('HMGET', key, '{"', '".join(_FIELDS)}')}})
  end
end
for _, state in ipairs({{'wait', 'paused'}}) do add(state, redis.call('LRANGE', prefix .. state, 0, -1)) end
for _, state in ipairs({{'prioritized', 'delayed'}}) do add(state, redis.call('ZRANGE', prefix .. state, 0, -1)) end
add('active', redis.call('LRANGE', prefix .. 'active', 0, -1))
for _, state in ipairs({{'completed', 'failed'}}) do add(state, redis.call('ZRANGE', prefix .. state, 0, -1)) end
return cjson.encode(found)
"""
"""One text is read ten times as fast as a reply of many parts."""
SHARE: Final = 0x1000
"""A delayed job's place is its time in milliseconds, times this, plus a number that keeps the order."""

_FINDINGS: Final = "scenarios/findings/bullmq"
REDIS: Final[Contract] = contract(
    {
        "uniqueness/retry_is_refused_while_another_has_the_key": Known(
            frozenset({"unique_key_shared"}), f"{_FINDINGS}/a_retry_does_not_ask_for_its_key.yaml"
        ),
    }
)


class RedisBullQueue(BullQueue):
    """A queue under test over BullMQ on Redis. A lock is a key that ends; what it was is remembered here."""

    server = "Redis"
    _stalled_interval = 1  # Redis takes no time of 0 for the key.

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened, look=self._rows)
        self._locks: dict[str, tuple[str, int]] = {}
        """By BullMQ's id: the lock that was seen last, and when it ends in milliseconds."""
        self._known: dict[str, Any] = {}

    def _before_check(self) -> None:
        self._database.ask("DEL", STALLED_CHECK)

    def _rows(self) -> list[Row]:
        found = self._database.ask("EVAL", LOOK, 0, PREFIX).decode("utf-8", "surrogateescape")
        now = milliseconds_of(self._database.now)
        return [self._row(now, *each) for each in json.loads(found) or ()]

    def _row(
        self, now: int, state: str, lock: str | bool, ttl: int, due: str | bool, found: Sequence[str | bool]
    ) -> Row:
        fields = {name: value for name, value in zip(_FIELDS, found, strict=True) if isinstance(value, str)}
        data, options = self._read(fields["data"]), self._read(fields["opts"])
        name = data["job"]
        if isinstance(lock, str):
            self._locks[name] = lock, now + ttl
        token, until = self._locks.get(name, ("", now)) if state == "active" else ("", None)
        value = fields.get("returnvalue")
        return {
            "data": data,
            "name": fields["name"],
            "state": state,
            "priority": int(fields.get("priority", 0)),
            "made": int(fields.get("atm", 0)),
            "stalled": int(fields.get("stc", 0)),
            "output": None if value is None else json.loads(value),
            "error": fields.get("failedReason"),
            "token": token or None,
            "locked_until": until,
            "key": fields.get("deid", options.get("de", options.get("deduplication", {})).get("id")),
            "added": int(fields["timestamp"]),
            "due": _due(due, fields, options),
            "started_at": _whole(fields, "processedOn"),
            "ended_at": _whole(fields, "finishedOn"),
        }

    def _read(self, text: str) -> Any:
        """Read what a job was added with, once."""
        if text not in self._known:
            self._known[text] = json.loads(text)
        return self._known[text]


def _due(score: str | bool, fields: Mapping[str, str], options: Mapping[str, Any]) -> int | None:
    """Return when a job is due, or was before it had a place among those that wait."""
    if isinstance(score, str):
        return int(float(score)) // SHARE
    asked = int(options.get("delay", 0))
    return int(fields["timestamp"]) + asked if asked else None


def _whole(fields: Mapping[str, str], name: str) -> int | None:
    return int(fields[name]) if name in fields else None
