"""BullMQ on Redis, on a server whose clock is ours: how its jobs are seen, and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from harness.adapters.bullmq.queue import BullQueue, Row, contract
from harness.adapters.foreign_queue import Opened
from harness.foreign.database import milliseconds_of
from harness.port import Contract, Known

PREFIX: Final = "bull:jobs:"
STALLED_CHECK: Final = f"{PREFIX}stalled-check"
"""This key keeps a second check for stalled jobs away until it ends."""

LOOK: Final = """
local function members(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'list' then return redis.call('LRANGE', key, 0, -1) end
  if kind == 'zset' then return redis.call('ZRANGE', key, 0, -1) end
  return {}
end
local found = {}
for _, state in ipairs({'wait', 'paused', 'prioritized', 'delayed', 'active', 'completed', 'failed'}) do
  for _, id in ipairs(members(ARGV[1] .. state)) do
    local key = ARGV[1] .. id
    local due = false
    if state == 'delayed' then due = redis.call('ZSCORE', ARGV[1] .. state, id) end
    table.insert(found, {state, redis.call('HGETALL', key), redis.call('GET', key .. ':lock'),
                         redis.call('PTTL', key .. ':lock'), due})
  end
end
return found
"""
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

    _stalled_interval = 1  # Redis takes no time of 0 for the key.

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened, look=self._rows)
        self._locks: dict[str, tuple[bytes, int]] = {}
        """By BullMQ's id: the lock that was seen last, and when it ends in milliseconds."""

    def _before_check(self) -> None:
        self._database.ask("DEL", STALLED_CHECK)

    def _rows(self) -> list[Row]:
        found = self._database.ask("EVAL", LOOK, 0, PREFIX)
        now = milliseconds_of(self._database.now)
        return [self._row(now, *each) for each in found]

    def _row(self, now: int, state: bytes, pairs: list[bytes], lock: bytes | None, ttl: int, due: bytes | None) -> Row:
        fields = {pairs[at].decode(): pairs[at + 1] for at in range(0, len(pairs), 2)}
        data, options = json.loads(fields["data"]), json.loads(fields["opts"])
        name = data["job"]
        if lock is not None:
            self._locks[name] = lock, now + ttl
        token, until = self._locks.get(name, (b"", now)) if state == b"active" else (b"", None)
        value = fields.get("returnvalue")
        return {
            "data": data,
            "name": fields["name"].decode(),
            "state": state.decode(),
            "priority": int(fields.get("priority", 0)),
            "made": int(fields.get("atm", 0)),
            "stalled": int(fields.get("stc", 0)),
            "output": None if value is None else json.loads(_text(value)),
            "error": _text(fields["failedReason"]) if "failedReason" in fields else None,
            "token": token.decode() or None,
            "locked_until": until,
            "key": _key(fields, options),
            "added": int(fields["timestamp"]),
            "due": _due(due, fields, options),
            "started_at": _whole(fields, "processedOn"),
            "ended_at": _whole(fields, "finishedOn"),
        }


def _due(score: bytes | None, fields: Mapping[str, bytes], options: Mapping[str, Any]) -> int | None:
    """Return when a job is due, or was before it had a place among those that wait."""
    if score is not None:
        return int(float(score)) // SHARE
    asked = int(options.get("delay", 0))
    return int(fields["timestamp"]) + asked if asked else None


def _key(fields: Mapping[str, bytes], options: Mapping[str, Any]) -> str | None:
    if "deid" in fields:
        return fields["deid"].decode()
    key: str | None = options.get("de", options.get("deduplication", {})).get("id")
    return key


def _whole(fields: Mapping[str, bytes], name: str) -> int | None:
    return int(fields[name]) if name in fields else None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
