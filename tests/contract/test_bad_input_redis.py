"""What a Redis may say that is none, or none that serves: each is told in its words, and no wait is without end."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.patience import Deadline
from job_harness.worlds.redis import RedisClient, RedisStore
from job_harness.worlds.redis import server as redis_server

pytestmark = pytest.mark.slow

PATIENCE = 0.3


@contextmanager
def saying(path: Path, *parts: bytes, every: float = 0.0) -> Iterator[RedisClient]:
    """Serve one client that says these parts, whatever it is asked, and then closes."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            with listening.accept()[0] as connection, suppress(OSError):
                connection.recv(1_000)
                for part in parts:
                    connection.sendall(part)
                    Deadline(every).pause(every)

        thread = threading.Thread(target=serve)
        thread.start()
        client = RedisClient(path, patience=PATIENCE)
        yield client
        client.close()
        thread.join()


@pytest.mark.parametrize(
    ("parts", "every", "why"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], 0.0, "no RESP: b'HTTP/1.1 400 Bad Request'"),
        ([b"$x\r\n"], 0.0, "no RESP: b'x' is no length"),
        ([b"*-2\r\n"], 0.0, "no RESP: b'-2' is no length"),
        ([b":one\r\n"], 0.0, "no RESP: invalid literal"),
        ([b"*1\r\n" * 50_000], 0.0, "no RESP: maximum recursion depth"),
        ([b"$100\r\nabc"], 0.0, "it closed the connection"),
        ([b""], 2 * PATIENCE, "it did not answer PING for 0.3 s"),
        ([b"+", *[b"x"] * 20], PATIENCE / 5, "it did not answer PING for 0.3 s"),
    ],
    ids=["HTTP", "length", "negative length", "number", "nested", "half", "silence", "a byte now and then"],
)
def test_what_is_no_reply_is_told_and_given_up(tmp_path: Path, parts: Sequence[bytes], every: float, why: str) -> None:
    with saying(tmp_path / "socket", *parts, every=every) as client:
        with pytest.raises(EnvironmentUnavailable, match="Redis went away: ") as gone:
            client.ask("PING")
        assert why in gone.value.message
        with pytest.raises(EnvironmentUnavailable, match="this connection broke before"):
            client.ask("PING")


PROGRAM = """#!{python}
import socket, sys
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[sys.argv.index("--unixsocket") + 1])
listening.listen()
connection = listening.accept()[0]
while connection.recv(10_000):
    connection.sendall({reply!r})
"""


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", "it does not serve: LOADING Redis is loading"),
        (b"-MOVED 3999 127.0.0.1:6381\r\n", "it does not serve: MOVED 3999 127.0.0.1:6381"),
        (b"-OOM command not allowed\r\n", "it does not serve: OOM command not allowed"),
        (b":1\r\n", "it is no Redis: it answers INFO with 1"),
        (b"+OK\r\n", "it is no Redis: it answers TIME with b'OK'"),
    ],
    ids=["loading", "cluster", "out of memory", "a number", "always OK"],
)
def test_a_server_that_does_not_serve_is_refused_in_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: bytes, why: str
) -> None:
    try:
        redis_server.faketime()
    except EnvironmentUnavailable as missing:
        pytest.skip(str(missing))
    program = tmp_path / "server"
    program.write_text(PROGRAM.format(python=sys.executable, reply=reply))
    program.chmod(0o700)
    monkeypatch.setenv(redis_server.VARIABLE, str(program))
    with pytest.raises(EnvironmentUnavailable, match="Redis cannot run on a virtual clock here") as refused:
        RedisStore()
    assert f"{program}: {why}" in refused.value.message
    assert str(refused.value.hint).startswith(f"Unset {redis_server.VARIABLE}")
