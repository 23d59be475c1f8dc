"""What holds time still in a Node peer: work that waits for an answer. Idle connections and done work do not."""

from __future__ import annotations

import contextlib
import http.server
import socket
import socketserver
import struct
import subprocess
import textwrap
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.node_at_hand import needs_node, processor, written

from job_harness.subjects.processors import JobHarness, TypeScriptProcessor
from job_harness.worlds.packages import find_typescript_node
from job_harness.worlds.peers.runtime import NODE_HOST

pytestmark = needs_node
STALLED_AFTER = 3.0
"""Real seconds after which a connection that holds time ends a test, which 60 s of virtual time never need."""


# threads of Node ------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_synchronous_work_is_done_when_its_caller_goes_on_and_other_work_when_it_is_answered(tmp_path: Path) -> None:
    source = f"""
    import crypto from "node:crypto";
    import zlib from "node:zlib";
    import {{ Rest }} from {str(NODE_HOST.with_name("rest.mjs"))!r};
    const rest = new Rest();
    void process.stdout;
    rest.begin();
    const seen = async () => {{
      await new Promise((go) => setImmediate(go));
      return rest.outstanding().length;
    }};
    crypto.randomBytes(16), crypto.randomUUID(), crypto.getRandomValues(new Uint8Array(8)), crypto.randomInt(9);
    crypto.pbkdf2Sync("a", "b", 1, 32, "sha256"), crypto.scryptSync("a", "b", 32, {{ N: 2 }});
    crypto.hkdfSync("sha1", "k", "s", "i", 8), crypto.generatePrimeSync(32);
    const {{ privateKey }} = crypto.generateKeyPairSync("ec", {{ namedCurve: "P-256" }});
    crypto.sign("sha256", Buffer.from("a"), privateKey);
    zlib.gunzipSync(zlib.gzipSync("text")), zlib.brotliDecompressSync(zlib.brotliCompressSync("text"));
    const counts = [await seen()];
    const key = await crypto.subtle.importKey("raw", new Uint8Array(8), "PBKDF2", false, ["deriveBits"]);
    const about = {{ name: "PBKDF2", salt: new Uint8Array(8), iterations: 900_000, hash: "SHA-256" }};
    const works = [
      (done) => crypto.pbkdf2("a", "b", 900_000, 32, "sha256", done),
      (done) => crypto.scrypt("a", "b", 32, done),
      (done) => crypto.subtle.deriveBits(about, key, 256).then(done),
      (done) => zlib.brotliCompress(crypto.randomBytes(1_000_000), done),
    ];
    for (const work of works) {{
      const done = new Promise(work);
      counts.push(await seen());
      await done;
    }}
    counts.push(await seen());
    process.stdout.write(counts.join(" "), () => process.exit());
    """
    command = [find_typescript_node().path, written(tmp_path, source, name="work.mjs")]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert told == "0 1 1 1 1 0"


def test_a_compressor_may_be_silent_for_long_and_one_whose_output_is_not_read_is_done(tmp_path: Path) -> None:
    body = """
    const { brotliCompress, createGzip } = await import("node:zlib");
    const { randomBytes } = await import("node:crypto");
    createGzip().write(randomBytes(500_000)); // More than it keeps for a reader.
    await new Promise((go) => setTimeout(go, 60_000));
    let late = false;
    setTimeout(() => (late = true), 1);
    await new Promise((go) => brotliCompress(Buffer.alloc(3_000_000, "abcdefg"), go));
    return { success: !late };
    """
    with JobHarness() as jobs:
        assert jobs.perform_job(processor(tmp_path, body), None).success


def test_a_worker_thread_that_starts_holds_time(tmp_path: Path) -> None:
    body = """
    const { Worker } = await import("node:worker_threads");
    let late = false;
    setTimeout(() => (late = true), 1);
    const worker = new Worker("0", { eval: true });
    await new Promise((go) => worker.once("online", go));
    return { success: true, output: late };
    """
    with JobHarness() as jobs:
        assert jobs.perform_job(processor(tmp_path, body), None).output is False


# connections ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(conversation: Callable[[socket.socket], None]) -> Generator[int]:
    """Hold this conversation with each client; return the port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                conversation(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def ran(folder: Path, body: str, port: object) -> tuple[Any, list[str]]:
    """Run a processor that talks to the port, and return its output and the notes."""
    with JobHarness(blocked_after=STALLED_AFTER) as jobs:
        jobs.register("tool", TypeScriptProcessor(processor(folder, CLIENT + textwrap.dedent(body)), fetch="real"))
        job = jobs.enqueue("tool", port, max_attempts=1)
        jobs.run_until_idle()
        assert (job.status, job.error) == ("COMPLETED", None)
        return job.output, jobs.notes()


CLIENT = """
const net = await import("node:net");
const sleep = (ms: number) => new Promise((go) => setTimeout(go, ms));
const began = Date.now();
/** Write, and wait for an answer that ends so. */
const asked = (line: any, question: any, end: string) => new Promise<string>((go) => {
  let text = "";
  const hear = (data: any) => {
    text += data.toString("latin1");
    if (text.endsWith(end)) (line.off("data", hear), go(text));
  };
  line.on("data", hear);
  line.write(question);
});
"""


@pytest.mark.parametrize("reads", ["", "onread"])
def test_an_idle_connection_lets_time_pass_and_one_that_is_asked_does_not(tmp_path: Path, reads: str) -> None:
    def echo(line: socket.socket) -> None:
        while data := line.recv(100):
            threading.Event().wait(0.06)  # Real work of a server, which virtual time must wait for.
            line.sendall(data)

    body = """
    const callback = (length, bytes) => line.emit("data", bytes.subarray(0, length));
    const onread = job.input.reads ? { buffer: Buffer.alloc(100), callback } : undefined;
    const line = net.connect({ port: job.input.port, host: "127.0.0.1", onread });
    const passed = [];
    for (const word of ["one", "two"]) {
      const asking = Date.now();
      await asked(line, word, word);
      passed.push(Date.now() - asking);
      await sleep(60_000);
    }
    return { success: true, output: [...passed, Date.now() - began] };
    """
    with serving(echo) as port:
        assert ran(tmp_path, body, {"port": port, "reads": reads}) == ([0, 0, 120_000], [])


def test_what_was_printed_is_nothing_to_wait_for(tmp_path: Path) -> None:
    body = "process.stdout.write('out'); await sleep(60_000); return { success: true, output: Date.now() - began };"
    assert ran(tmp_path, body, 0) == (60_000, [])


def test_an_answer_of_postgresql_is_over_when_it_is_ready_again(tmp_path: Path) -> None:
    ready = b"Z\0\0\0\5I"
    rows = b"D" + struct.pack("!i", 10) + b"\0\0\0\0\0\0"

    def backend(line: socket.socket) -> None:
        line.recv(100)
        line.sendall(b"R\0\0\0\x08\0\0\0\0" + ready)
        line.recv(100)
        line.sendall(rows)
        threading.Event().wait(0.2)  # Longer than an answer of an unknown protocol may be interrupted.
        line.sendall(rows + ready)
        line.recv(100)

    body = """
    const line = net.connect(job.input, "127.0.0.1");
    await asked(line, Buffer.from("00000011000300007573657200610000", "hex"), "I");
    await sleep(1000);
    let late = false;
    setTimeout(() => (late = true), 5);
    await asked(line, Buffer.from("510000000a53454c4543540000", "hex"), "I");
    const was = late;
    await sleep(60_000);
    return { success: true, output: [was, Date.now() - began] };
    """
    with serving(backend) as port:
        assert ran(tmp_path, body, port) == ([False, 61_000], [])


def test_a_question_that_nobody_answers_is_given_up_and_named(tmp_path: Path) -> None:
    body = """
    const line = net.connect(job.input, "127.0.0.1");
    line.write("a line of a log");
    await sleep(60_000);
    line.destroy();
    return { success: true, output: Date.now() - began };
    """

    def listen(line: socket.socket) -> None:
        while line.recv(100):
            pass

    with serving(listen) as port:
        output, notes = ran(tmp_path, body, port)
    assert output == 60_000
    [note] = notes
    assert f"127.0.0.1:{port} was not answered for a second of real time" in note


class InParts(http.server.BaseHTTPRequestHandler):
    """Reply in two parts, and keep the connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"ab")
        threading.Event().wait(0.06)
        self.wfile.write(b"cd")

    def log_message(self, *about: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    "get",
    [
        "const get = async () => (await fetch(url)).text();",
        """
        const http = await import("node:http");
        const agent = new http.Agent({ keepAlive: true });
        const get = () => new Promise<string>((go) => http.get(url, { agent }, (answer) => {
          let text = "";
          answer.on("data", (data) => (text += data)).on("end", () => go(text));
        }));
        """,
    ],
    ids=["fetch", "agent"],
)
def test_a_connection_that_http_keeps_lets_time_pass_between_requests(get: str, tmp_path: Path) -> None:
    body = f"""
    {textwrap.dedent(get)}
    const seen: any[] = [];
    for (let nth = 0; nth < 2; nth++) {{
      const asking = Date.now();
      seen.push(await get(), Date.now() - asking);
      await sleep(60_000);
    }}
    return {{ success: true, output: [...seen, Date.now() - began] }};
    """
    assert ran_on_the_web(tmp_path, body) == (["abcd", 0, "abcd", 0, 120_000], [])


def test_an_answer_that_is_not_read_is_an_answer(tmp_path: Path) -> None:
    body = """
    const http = await import("node:http");
    const agent = new http.Agent({ keepAlive: true });
    const answer: any = await new Promise((go) => http.get(url, { agent }, go));
    await sleep(60_000);
    answer.destroy();
    return { success: true, output: [answer.statusCode, Date.now() - began] };
    """
    assert ran_on_the_web(tmp_path, body) == ([200, 60_000], [])


def ran_on_the_web(folder: Path, body: str) -> tuple[Any, list[str]]:
    """Run a processor that talks to `InParts`, whose `url` it has."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), InParts) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            begin = "const url = `http://127.0.0.1:${job.input}/`;\n"
            return ran(folder, begin + textwrap.dedent(body), server.server_port)
        finally:
            server.shutdown()
            thread.join()
