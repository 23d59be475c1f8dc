"""HTTPS as the hosts that stand for others speak it, with a certificate of our own that processes are told to trust.

Must not know: HTTP, processes.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import ssl
from pathlib import Path
from typing import Any, Final, NamedTuple

from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.packages import installed, run

_CHUNK: Final = 1 << 16
_SECONDS: Final = 30


class Certificate(NamedTuple):
    """A certificate for some hosts, and what speaks with it."""

    path: Path
    context: ssl.SSLContext


def certificate(hosts: tuple[str, ...]) -> Certificate:
    """Return a certificate for these hosts. Raises EnvironmentUnavailable where none can be made."""
    digest = hashlib.sha256("\n".join(hosts).encode()).hexdigest()[:16]

    def make(folder: Path) -> None:
        if shutil.which("openssl") is None:
            raise EnvironmentUnavailable(
                "there is no `openssl` to make a certificate for `outside`", hint="Install it."
            )
        names = ",".join(f"DNS:{host}" for host in hosts)
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "36500"]
        command += ["-subj", "/CN=job-harness", "-addext", f"subjectAltName={names}"]
        command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
        run(command, seconds=_SECONDS, what="make a certificate for `outside`", hint="Is OpenSSL installed?")

    folder = installed("certificates", digest, make)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return Certificate(folder / "cert.pem", context)


class TlsSocket:
    """A connection over which TLS is spoken, as far as an HTTP link asks for a socket."""

    def __init__(self, raw: socket.socket, own: Certificate) -> None:
        self._raw = raw
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = own.context.wrap_bio(self._in, self._out, server_side=True)
        self._open = False

    def recv(self, size: int) -> bytes:
        """Take what came. Raises BlockingIOError where that is no whole record yet."""
        data = self._raw.recv(_CHUNK)
        self._in.write(data) if data else self._in.write_eof()
        plain = b""
        try:
            if not self._open:
                self._tls.do_handshake()
                self._open = True
            while part := self._tls.read(size):
                plain += part
        except ssl.SSLWantReadError:
            if not plain:
                raise BlockingIOError from None
        except ssl.SSLError:  # It does not trust us, or it has ended the connection.
            self._in.write_eof()
        finally:
            if said := self._out.read():
                self._raw.sendall(said)
        return plain

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        self._tls.write(data)
        self._raw.sendall(self._out.read())

    def close(self) -> None:
        """Leave it."""
        self._raw.close()

    def fileno(self) -> int:
        """The descriptor of the connection."""
        return self._raw.fileno()

    def getpeername(self) -> Any:
        """Where it comes from."""
        return self._raw.getpeername()

    def getsockname(self) -> Any:
        """Where it leads to."""
        return self._raw.getsockname()

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Set an option of the connection."""
        self._raw.setsockopt(level, option, value)

    def setblocking(self, flag: bool) -> None:
        """Nothing waits here in real time."""
