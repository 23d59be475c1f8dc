// Which connections wait for an answer: asked and not answered. An idle one, such as a pool keeps, is nothing to wait for.
//
// Who knows best comes first. HTTP clients (Node's agents, undici) unref a connection that they keep, and ref it while it
// is used. PostgreSQL ends each answer with ReadyForQuery. Of any other protocol only the bytes are seen: what was
// written after the last read is a question, and an answer is over when nothing more came for `GRACE_MS`.
// Must not know: processors, timers, messages.
//
// Leans on `_write`, `_writev`, `push`, `_handle` and `_httpMessage` of net.Socket, on `secureConnecting` of TLSSocket,
// and on `reading` and `fd` of handles; checked on Node 22.16 and 24.19.
import { createRequire } from "node:module";
import { realMilliseconds } from "./clock.mjs";
import { hearReads, isReady, opensPostgres } from "./replies.mjs";

const net = createRequire(import.meta.url)("node:net"); // See peer.mjs.

// More of the same answer may follow for so long, in real time.
const GRACE_MS = 25;
// What has no answer for so long is no question: BLPOP, a message to a log server.
const UNANSWERED_MS = 1000;
const REQUEST_LINE = /^[A-Z]+ \S+ HTTP\/1\.[01]\r?\n/;
const UPGRADED = /^HTTP\/1\.[01] 101/;

export class Connections {
  constructor() {
    this.known = new Map();
    /** Hears once of each connection that was given up as one that answers. */
    this.unanswered = () => {};
    /** Says of which connections more is known than their bytes. */
    this.knownElsewhere = () => false;
  }

  /** See what is asked and heard on every connection that is made from here on. */
  install() {
    const connections = this;
    const { connect, _write, _writev, push } = net.Socket.prototype;
    Object.assign(net.Socket.prototype, {
      connect(...args) {
        connections.known.set(this, new Connection(this));
        return connect.apply(this, args);
      },
      _write(data, ...more) {
        connections.hear(this);
        connections.of(this)?.asked(data);
        return _write.call(this, data, ...more);
      },
      _writev(chunks, ...more) {
        connections.hear(this);
        for (const { chunk } of chunks) connections.of(this)?.asked(chunk);
        return _writev.call(this, chunks, ...more);
      },
      push(chunk, ...more) {
        if (chunk !== null) connections.of(this)?.heard(chunk);
        return push.call(this, chunk, ...more);
      },
    });
  }

  /** A socket that reads into a buffer of its user's pushes nothing. */
  hear(socket) {
    hearReads(this, socket, (chunk, pass) => {
      this.of(socket)?.heard(chunk);
      return pass();
    });
  }

  /** TLS over a connection that is there already is never told to connect. */
  of(socket) {
    if (!this.known.has(socket) && this.known.has(socket._parent)) this.known.set(socket, new Connection(socket));
    return this.known.get(socket);
  }

  /** How many connections wait for an answer, and how many there are, by the kind that Node lists them under. */
  counted() {
    const waiting = [];
    const open = new Map();
    for (const [socket, connection] of this.known) {
      if (!connection.referenced()) {
        if (socket.destroyed) this.known.delete(socket);
        continue;
      }
      const kind = connection.kind();
      open.set(kind, (open.get(kind) ?? 0) + 1);
      if (connection.real() && !this.knownElsewhere(socket) && connection.waits((where) => this.unanswered(where))) waiting.push(kind);
    }
    return { waiting, open };
  }
}

class Connection {
  constructor(socket) {
    this.socket = socket;
    this.protocol = null;
    this.owed = false;
    this.at = realMilliseconds(); // Some servers speak first.
  }

  asked(data) {
    const bytes = typeof data === "string" ? Buffer.from(data.slice(0, 2048), "latin1") : Buffer.from(data);
    this.protocol ??= protocolOf(bytes);
    this.owed = true;
    this.at = realMilliseconds();
  }

  heard(chunk) {
    this.at = realMilliseconds();
    if (this.protocol === "postgres") this.owed &&= !isReady(chunk);
    else this.owed = false;
    if (this.protocol === "http" && UPGRADED.test(chunk.toString("latin1", 0, 16))) this.protocol = "other";
  }

  referenced() {
    return this.socket._handle?.hasRef?.() ?? false;
  }

  /** What stands in for the network (nock, msw) uses sockets whose handle has no descriptor, and answers by timers. */
  real() {
    return !this.socket.destroyed && this.socket._handle.fd !== -1;
  }

  kind() {
    return this.socket._handle?.constructor.name === "Pipe" ? "PipeWrap" : "TCPSocketWrap";
  }

  waits(tell) {
    const { socket, protocol } = this;
    if (socket.connecting || socket.secureConnecting) return true;
    if (socket._handle.reading === false || socket._httpMessage?.res?.complete) return false; // It is all there, unread.
    if (protocol === "http" || socket.alpnProtocol === "h2") return true;
    if (protocol === "postgres") return this.owed;
    const silent = realMilliseconds() - this.at;
    if (!this.owed) return silent < GRACE_MS;
    if (silent < UNANSWERED_MS) return true;
    this.owed = false;
    tell(socket.remoteAddress ? `${socket.remoteAddress}:${socket.remotePort}` : "a local socket");
    return false;
  }
}

function protocolOf(bytes) {
  if (opensPostgres(bytes)) return "postgres";
  return REQUEST_LINE.test(bytes.toString("latin1", 0, 2048)) ? "http" : "other";
}
