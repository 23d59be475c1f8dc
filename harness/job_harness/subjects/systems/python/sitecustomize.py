"""Loaded by Python before the program of a user: virtual time, chance of ours, and a say in when it is at rest.

The program itself is not changed. A thread of ours keeps the channel to the harness
(docs/contracts/peer_protocol.md); the process is at rest when every other thread sleeps in the
system, none was woken meanwhile, and every byte that the harness sent has been read. Needs Linux,
which tells both. It must not import anything of the harness's, and knows neither jobs nor
statements.
"""

import errno
import fcntl
import json
import os
import select
import selectors
import socket
import struct
import sys
import threading
import time

_PEER = "JOB_HARNESS_PEER"
_FORKS = "JOB_HARNESS_FORKS"
_ASKED = "JOB_HARNESS_SYSTEM"
_LINES = "JOB_HARNESS_LINES"
_LOCAL = frozenset({"localhost", "::1", "0.0.0.0", "::", ""})
_FIONREAD = 0x541B
_TO_ACCEPT, _RECEIVED, _NOT_SENT, _SENT, _SENT_AGAIN = 24, 128, 144, 200, 208
"""Where `struct tcp_info` has the bytes that were received, those still to be sent, those that were, and those of them
that were sent once more: on a crowded machine TCP takes an answer that is late for one that is lost."""
_CONNECTS, _PEER_HAS_ENDED, _LISTENS = 2, 8, 10
"""States of a connection: it was asked for and is not there yet, its other end is closed, it is to be connected to."""
_OURS = os.path.dirname(os.path.abspath(__file__))
_real = {
    name: getattr(time, name)
    for name in ("sleep", "time", "monotonic", "perf_counter", "gmtime", "localtime", "strftime", "ctime")
}
_OF_DAY = {which for name, which in vars(time).items() if name in ("CLOCK_REALTIME", "CLOCK_TAI")}
_PASSED = {
    which for name, which in vars(time).items() if name in ("CLOCK_MONOTONIC", "CLOCK_MONOTONIC_RAW", "CLOCK_BOOTTIME")
}
_cpu = time.clock_gettime
_real_wait = threading.Condition.wait
_real_lock = threading.Lock
_real_select = select.select


class Clock:
    """Time as the harness tells it, in milliseconds, and the timers that are set."""

    def __init__(self):
        self.now = self.start = self.skew = 0.0
        self.timers = {}
        self._count = 0
        self._lock = _real_lock()
        self._left_at = None
        """Seconds of the machine's clock at which this process was forked from the program; None: it is the program."""

    def of_day(self):
        return (self.now + self.skew) / 1000 + self._since_left()

    def passed(self):
        return _UPTIME + (self.now - self.start) / 1000 + self._since_left()

    def leave(self):
        """Go on by itself from here: a child of the program is not told the time, and timers would never fire in it."""
        if self.is_told:
            self._left_at = _real["monotonic"]()

    def _since_left(self):
        return 0.0 if self.is_told else _real["monotonic"]() - self._left_at

    @property
    def is_told(self):
        return self._left_at is None

    def times(self, seconds):
        """Whether a wait that ends after some seconds ends in virtual time. Without an end, or now, it is real."""
        return seconds is not None and seconds > 0 and self.is_told

    def timer(self, seconds, *, repeats=False):
        """Return a timer that is not set yet."""
        with self._lock:
            self._count += 1
            return Wakeup(self._count, self.now, max(round(seconds * 1000, 3), 0.001), repeats=repeats)

    def set(self, timer, fire):
        timer.fire = fire
        self.timers[timer.number] = timer

    def add(self, seconds, fire):
        timer = self.timer(seconds)
        self.set(timer, fire)
        return timer.number

    def remove(self, number):
        self.timers.pop(number, None)

    def fire(self, number):
        timer = self.timers.pop(number, None)
        if timer is not None:
            timer.fire()

    def list_timers(self):
        timers = list(self.timers.values())
        return [[each.number, each.when, each.wait, each.repeats, each.place, True] for each in timers]

    def next(self):
        return min((timer.when for timer in list(self.timers.values())), default=None)


class Wakeup:
    """When a wait ends, in milliseconds, and what ends it; `repeats`: who waits looks up now and then, and waits on."""

    def __init__(self, number, now, wait, *, repeats):
        self.number, self.when, self.wait, self.repeats = number, now + wait, wait, repeats
        self.place, self.fire = _place(), None


_UPTIME = 100_000.0
"""What `time.monotonic` begins with, in seconds: a program may take a small one for a time that is long ago."""
clock = Clock()


def _place():
    """Return the nearest function of the user's: `file.py:function`."""
    frame = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith((_OURS, "<", sys.base_prefix + "/lib", sys.prefix + "/lib")):
            return f"{os.path.basename(path)}:{frame.f_code.co_name}"
        frame = frame.f_back
    return ""


def _line(own):
    """Return the line of the user's that waits for an answer, as `file.py:12`; "" where that is none, or not one alone.

    What an event loop waits for, or one of our timers, was not asked there.
    """
    found = []
    for thread, frame in sys._current_frames().items():
        while frame is not None and thread != own:
            path = frame.f_code.co_filename
            if path.endswith(_NOT_ASKED_THERE) or (path == __file__ and frame.f_code.co_name not in _ASKING):
                break
            if _theirs(path):
                found.append(_line_in(frame))
                break
            frame = frame.f_back
    return found[0] if len(found) == 1 else ""


_files = {}
"""By the file name that a line was given with, the whole path."""


def _line_in(frame):
    path = frame.f_code.co_filename
    name = os.path.basename(path)
    _files[name] = path
    return f"{name}:{frame.f_lineno}"


def _lines_of_tasks():
    """Return, by connection, the line of the user's whose task waits for its answer, for asyncpg and async psycopg."""
    found = {}
    for task in _tasks():
        line, waiting = "", task.get_coro()
        while waiting is not None:
            frame = getattr(waiting, "cr_frame", None)
            if frame is not None and _theirs(frame.f_code.co_filename):
                line = _line_in(frame)
            elif frame is not None and (key := _connection_of(frame)):
                found[key] = line
            waiting = getattr(waiting, "cr_await", None)
    return {key: line for key, line in found.items() if line}


def _tasks():
    """Return the tasks of every event loop at work: nothing else runs while this is asked."""
    asyncio = sys.modules.get("asyncio.base_events") and sys.modules["asyncio"]
    for frame in sys._current_frames().values() if asyncio else ():
        while frame is not None:
            if frame.f_code.co_name == "run_forever" and frame.f_code.co_filename.endswith(_NOT_ASKED_THERE[0]):
                yield from asyncio.all_tasks(frame.f_locals["self"])
            frame = frame.f_back


def _connection_of(frame):
    """Return the ports of the connection that a driver works on here, in asyncpg 0.31 and psycopg 3.3; else ""."""
    path, own = frame.f_code.co_filename, frame.f_locals.get("self")
    try:
        if path.endswith(_OF_ASYNCPG):
            transport = (own if path.endswith(_OF_ASYNCPG[0]) else own._connection)._transport
            here, there = (transport.get_extra_info(name) for name in ("sockname", "peername"))
        elif path.endswith(_OF_PSYCOPG) and own is not None:
            with socket.socket(fileno=os.dup(own.pgconn.socket)) as twin:
                here, there = twin.getsockname(), twin.getpeername()
        else:
            return ""
        return f"{here[1]}:{there[1]}"
    except Exception:  # noqa: BLE001 - a line is a comfort: a driver of another shape must not end its process
        return ""


_OF_ASYNCPG = (f"asyncpg{os.sep}connection.py", f"asyncpg{os.sep}prepared_stmt.py", f"asyncpg{os.sep}cursor.py")
_OF_PSYCOPG = f"psycopg{os.sep}connection_async.py"
_ASKING = ("wait_for_answer", "read_answer")
"""Those of our functions in which a thread waits for what it has asked for."""
_NOT_ASKED_THERE = (f"asyncio{os.sep}base_events.py", f"{os.sep}socketserver.py", f"{os.sep}threading.py")


def _theirs(path):
    """Whether a file is the user's own: neither ours nor Python's nor a package."""
    ours = path.startswith((_OURS, "<", sys.base_prefix + "/lib", sys.prefix + "/lib"))
    return not ours and f"{os.sep}site-packages{os.sep}" not in path


# time -----------------------------------------------------------------------------------------------------------------


def _install_time():
    def seconds():  # Not the method itself: who copies what holds it would copy the clock.
        return clock.of_day()

    def passed():
        return clock.passed()

    time.time = seconds
    time.time_ns = lambda: round(seconds() * 1e9)
    time.monotonic = time.perf_counter = passed
    time.monotonic_ns = time.perf_counter_ns = lambda: round(passed() * 1e9)
    time.gmtime = lambda *at: _real["gmtime"](*(at if at and at[0] is not None else (seconds(),)))
    time.localtime = lambda *at: _real["localtime"](*(at if at and at[0] is not None else (seconds(),)))
    time.ctime = lambda *at: _real["ctime"](*(at if at and at[0] is not None else (seconds(),)))
    time.strftime = lambda form, *at: _real["strftime"](form, *(at or (time.localtime(),)))
    time.clock_gettime_ns = lambda which: round(time.clock_gettime(which) * 1e9)
    time.clock_gettime = lambda which: seconds() if which in _OF_DAY else passed() if which in _PASSED else _cpu(which)
    time.sleep = _sleep
    threading.Condition.wait = _wait
    select.select = _select
    threading._time = passed  # what the module took of `time` when it was imported
    _install_datetime()
    _install_selectors()
    _install_socket_timeouts()
    sys.meta_path.insert(0, Finder("psycopg.waiting", _follow_notifies))
    sys.meta_path.insert(0, Finder("asyncio.selector_events", _follow_loops))


def _sleep(seconds):
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    if not clock.is_told:
        return _real["sleep"](seconds)
    gate = _real_lock()
    gate.acquire()
    number = clock.add(seconds, gate.release)
    try:
        gate.acquire()
    finally:
        clock.remove(number)


def _wait(self, timeout=None):
    """Wait as a condition does; a timeout passes in virtual time."""
    if not clock.times(timeout):
        return _real_wait(self, timeout)
    if not self._is_owned():
        raise RuntimeError("cannot wait on un-acquired lock")
    waiter = _real_lock()
    waiter.acquire()
    self._waiters.append(waiter)
    expired = []

    def withdraw():
        try:
            self._waiters.remove(waiter)
        except ValueError:
            return False
        return True

    def expire():
        if withdraw():
            expired.append(True)
            waiter.release()

    number = clock.add(timeout, expire)
    saved = self._release_save()
    try:
        waiter.acquire()
        return not expired
    finally:
        clock.remove(number)
        self._acquire_restore(saved)
        withdraw()  # A handler of a signal may have raised: `notify` must not wake who waits no more.


def _install_datetime():
    """Let `datetime.now` and `utcnow` ask for the time as `today` does: by `time.time`.

    The types stay what they are, so that what they make is pickled, and is an instance of the
    subclass that made it.
    """
    import datetime as module

    kind = module.datetime

    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)

    def utcnow(cls):
        return cls.fromtimestamp(time.time(), module.timezone.utc).replace(tzinfo=None)  # noqa: UP017 - for Python 3.9

    _replace_method(kind, "now", classmethod(now))
    _replace_method(kind, "utcnow", classmethod(utcnow))


def _replace_method(kind, name, value):
    """Replace a method of a type that is written in C. Checked on CPython 3.9 to 3.13."""
    import ctypes
    import gc

    gc.get_referents(vars(kind))[0][name] = value
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


class Alarm:
    """Timers that are set for a while; `descriptor` becomes readable when one of them fires."""

    def __init__(self, *timers):
        self.descriptor, outward = os.pipe()
        self._descriptors, self._timers = (self.descriptor, outward), timers
        for timer in timers:
            clock.set(timer, lambda: os.write(outward, b"."))

    def __enter__(self):
        return self.descriptor

    def __exit__(self, *_):
        for timer in self._timers:
            clock.remove(timer.number)
        for descriptor in self._descriptors:
            os.close(descriptor)


def _install_selectors():
    """Let a timeout of `select` pass in virtual time: asyncio's own timers, and servers that look up now and then."""
    for kind in ("EpollSelector", "PollSelector", "SelectSelector"):
        if hasattr(selectors, kind):
            _install_selector(getattr(selectors, kind))


def _install_selector(kind):
    real = kind.select

    def select(self, timeout=None):
        if not clock.times(timeout):
            return real(self, timeout)
        found = real(self, 0)
        if found:
            return found
        with Alarm(*(_timers_of_loop(self) or [clock.timer(timeout, repeats=True)])) as rings:
            self.register(rings, selectors.EVENT_READ)
            try:
                found = real(self, None)
            finally:
                self.unregister(rings)
        return [(key, events) for key, events in found if key.fd != rings]

    kind.select = select


class LoopTimer:
    """A timer that an asyncio loop has set. Ours is the same for as long as the loop waits for it."""

    def __init__(self, handle, seconds):
        self.handle, self.timer = handle, clock.timer(seconds, repeats=True)

    def renew(self):
        """Return our timer; another one where that has fired, and the loop's clock is a rounding behind."""
        if self.timer.when <= clock.now:
            self.timer = clock.timer(self.handle.when() - clock.passed(), repeats=True)
        return self.timer


_OF_LOOP = "_job_harness_timers"


def _timers_of_loop(selector):
    """Return a timer for each that the loop of a selector waits for; none where it is no loop's."""
    kept = vars(selector).get(_OF_LOOP, {})
    for key, each in list(kept.items()):
        if each.handle.cancelled() or not each.handle._scheduled:
            del kept[key]
    return [each.renew() for each in kept.values()]


def _follow_loops(module):
    """Let each timer of an asyncio loop be one of ours, named after who set it.

    A loop waits for the first of them alone. Were that the only one that we know, a tick that finds nothing, and is
    left out from then on, would hide the poll of another task. Leans on `TimerHandle._scheduled` and on
    `BaseSelectorEventLoop._selector`; checked on CPython 3.11 and 3.13.
    """
    kind = module.BaseSelectorEventLoop
    real = kind.call_at

    def call_at(self, when, *args, **more):
        handle = real(self, when, *args, **more)
        kept = vars(self._selector).setdefault(_OF_LOOP, {})
        kept[id(handle)] = LoopTimer(handle, when - self.time())
        return handle

    kind.call_at = call_at


def _select(reads, writes, excepts, timeout=None):
    """Do as `select.select` does; a timeout passes in virtual time."""
    if not clock.times(timeout):
        return _real_select(reads, writes, excepts, timeout)
    asked = [list(reads), list(writes), list(excepts)]
    found = _real_select(*asked, 0)
    if any(found):
        return found
    with Alarm(clock.timer(timeout, repeats=True)) as rings:
        readable, *others = _real_select([*asked[0], rings], *asked[1:])
    return ([each for each in readable if each is not rings], *others)


def _install_socket_timeouts():
    """Let the timeout of a socket that is read, or that accepts, pass in virtual time."""
    for name in ("recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into", "accept"):
        _install_socket_timeout(name, getattr(socket.socket, name))


def _install_socket_timeout(name, real):
    def read_answer(self, *args, **more):
        seconds = self.gettimeout()
        if clock.times(seconds) and not _readable(self.fileno(), seconds):
            raise socket.timeout("timed out")  # noqa: UP041 - in Python 3.9 it is a class of its own
        return real(self, *args, **more)

    def accept(self):
        return read_answer(self)

    setattr(socket.socket, name, accept if name == "accept" else read_answer)


def _readable(descriptor, seconds):
    """Wait until there is something to read. False: the time was over before."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if poll.poll(0):
        return True
    with Alarm(clock.timer(seconds)) as rings:
        poll.register(rings, select.POLLIN)
        return any(found == descriptor for found, _ in poll.poll())


class Finder:
    """Finds a module, and lets `follow` have it once it is imported."""

    def __init__(self, name, follow):
        self.name, self.follow = name, follow

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path)
        if spec is not None:
            real = spec.loader.exec_module

            def exec_module(module):
                real(module)
                self.follow(module)

            spec.loader.exec_module = exec_module
        return spec


def _follow_notifies(waiting):
    """Let a timeout of `notifies` pass in virtual time.

    psycopg, whose loop is in C, wakes ten times a second to ask whether `notifies(timeout=5)` is
    over. By our clock it never is, for the harness sees no timer. Its own loop in Python sets one.
    Checked on psycopg 3.2 and 3.3.
    """
    real = waiting.wait

    def wait_for_answer(gen, *rest, **more):
        if getattr(gen, "__name__", "") == "notifies":
            end = sys._getframe(2).f_locals.get("deadline")  # Of `Connection.notifies`, through `Connection.wait`.
            left = None if end is None else end - time.monotonic() + 1e-6  # psycopg 3.2 wants it to be over.
            if clock.times(left):
                return waiting.wait_selector(gen, *rest, **{**more, "interval": left})
        return real(gen, *rest, **more)

    waiting.wait = wait_for_answer


# threads --------------------------------------------------------------------------------------------------------------


def _install_threads():
    """Let a thread that is started come to its first sleep before the one that started it goes on.

    Who of the two connects first, or sets a timer first, would be a matter of real time. How long
    one waits for the end of the other is a matter of virtual time.
    """
    kind = threading.Thread
    real_start, real_join, real_work = kind.start, kind.join, kind._bootstrap_inner

    def start(self):
        vars(self).setdefault("_job_harness_end", threading.Event())
        real_start(self)
        _await_sleep(self.native_id)

    def work(self):
        try:
            real_work(self)
        finally:
            self._job_harness_end.set()

    def join(self, timeout=None):
        end = vars(self).get("_job_harness_end")
        if end is not None and clock.times(timeout) and self is not threading.current_thread():
            timeout = None if end.wait(timeout) else 0
        return real_join(self, timeout)

    kind.start, kind.join, kind._bootstrap_inner = start, join, work


_NAP = 0.0002
"""Real seconds between two looks of a thread that waits for one that it has started."""


def _await_sleep(thread):
    """Wait until a thread sleeps or has ended; one that computes on and on is let go beside its starter."""
    before = None
    while True:
        _real["sleep"](_NAP)
        try:
            told = _thread(thread)
            computes = _computed(thread) > _MOST_COMPUTED
        except OSError:
            return  # It has ended.
        if computes or (told is not None and told == before):
            return
        before = told


def _computed(thread):
    """Return for how many seconds a thread has had a processor."""
    with open(f"/proc/self/task/{thread}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


_MOST_COMPUTED = 0.5
"""Seconds of a processor after which a new thread is not waited for."""


# chance ---------------------------------------------------------------------------------------------------------------


class Chance:
    """Numbers that the same seed draws again."""

    def __init__(self):
        self.seed = ""
        self.drawn = 0
        self._early = {}
        """Generators that drew their seed before there was one of ours: a package made them when it was imported."""
        self._forks = 0

    def urandom(self, size):
        import hashlib

        data = b""
        while len(data) < size:
            self.drawn += 1
            data += hashlib.sha256(f"{self.seed} {self.drawn}".encode()).digest()
        return data[:size]

    def install(self):
        import random

        os.urandom = random._urandom = self.urandom
        real_seed = random.Random.seed

        def seed(generator, a=None, version=2):
            self._early.pop(id(generator), None)
            if a is None:
                a = int.from_bytes(self.urandom(32), "big")
                if not self.seed:
                    self._early[id(generator)] = generator
            real_seed(generator, a, version)

        random.Random.seed = seed
        random.seed = random._inst.seed

    def begin(self, seed):
        import random

        self.seed, self.drawn, self._forks = seed, 0, 0
        random.seed(seed)
        for generator in list(self._early.values()):
            generator.seed()

    def before_fork(self):
        self._forks += 1

    def after_fork(self):
        """Draw as no other child of the program draws."""
        self.begin(f"{self.seed} {self._forks}")


chance = Chance()


# the network ----------------------------------------------------------------------------------------------------------


def _install_network(asked, note):
    """Let connections to a host outside lead to what stands for it, and none to another machine.

    `asked` may change until the program begins.
    """
    real_info, kind = socket.getaddrinfo, socket.socket
    real = {name: getattr(kind, name) for name in ("connect", "connect_ex", "sendto", "sendmsg")}

    def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
        name = _text(host)
        if name in asked["outside"]:
            return real_info(_OUTSIDE, port, socket.AF_INET, type, proto)
        if name is None or _is_here(name):
            return real_info(host, port, family, type, proto, flags)
        note(f"it connects to {name}:{port}, which `outside` does not name")
        raise socket.gaierror(socket.EAI_NONAME, f"{name} is not named under `outside`")

    def led(own, address, *, sends=False):
        """Return where an address leads. Raises OSError: nowhere. To connect for datagrams sends nothing as yet."""
        if own.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple) or len(address) < 2:
            return address
        host, port = _text(address[0]), address[1]
        streams = own.type == socket.SOCK_STREAM
        if _is_here(host):
            return address
        if host == _OUTSIDE or host in asked["outside"] or not (streams or sends):
            return "127.0.0.1", asked["recorder"]
        if streams:
            note(f"it connects to {host}:{port}, which `outside` does not name")
        else:
            note(f"it sends a datagram to {host}:{port}")
        raise OSError(errno.ENETUNREACH, f"{host} is not named under `outside`")

    def connect(self, address):
        return real["connect"](self, led(self, address))

    def connect_ex(self, address):
        try:
            return real["connect_ex"](self, led(self, address))
        except OSError as error:
            if error.errno != errno.ENETUNREACH:
                raise
            return error.errno

    def sendto(self, data, *rest):
        return real["sendto"](self, data, *rest[:-1], *(led(self, address, sends=True) for address in rest[-1:]))

    def sendmsg(self, buffers, ancillary=(), flags=0, address=None):
        where = None if address is None else led(self, address, sends=True)
        return real["sendmsg"](self, buffers, ancillary, flags, where)

    socket.getaddrinfo = getaddrinfo
    kind.connect, kind.connect_ex, kind.sendto, kind.sendmsg = connect, connect_ex, sendto, sendmsg
    _install_encryption(asked)


_OUTSIDE = "127.11.0.1"
"""The address of every host outside. Some clients connect to it at the port of their own; who is meant is in `Host`."""


def _text(host):
    return host.decode() if isinstance(host, (bytes, bytearray)) else host


def _is_here(host):
    return host in _LOCAL or (isinstance(host, str) and host.startswith(("127.", "::ffff:127.")) and host != _OUTSIDE)


def _install_encryption(asked):
    """Let connections to what stands for a host outside be as they are: there is no certificate of it."""
    try:
        import ssl
    except ImportError:
        return
    kind = ssl.SSLContext
    real_socket, real_bio = kind.wrap_socket, kind.wrap_bio

    class Unencrypted(ssl.SSLObject):
        """Passes on what it is given, for asyncio and anyio, which encrypt beside their connections."""

        def __init__(self, incoming, outgoing, context, host):
            self._incoming, self._outgoing = incoming, outgoing
            self._context, self._host = context, host

        context = property(lambda self: self._context)
        server_hostname = property(lambda self: self._host)
        server_side = session_reused = False
        session = None

        def read(self, size=1024, buffer=None):
            data = self._incoming.read(size)
            if not data and not self._incoming.eof:
                raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "nothing has come")
            if buffer is None:
                return data
            buffer[: len(data)] = data
            return len(data)

        def write(self, data):
            return self._outgoing.write(data)

        def pending(self):
            return self._incoming.pending

        def nothing(self, *_, **__):
            return None

        do_handshake = unwrap = cipher = version = compression = shared_ciphers = nothing
        getpeercert = selected_alpn_protocol = selected_npn_protocol = get_channel_binding = nothing

    def wrap_socket(self, sock, *rest, **more):
        try:
            recorded_here = sock.getpeername()[1] == asked["recorder"]
        except OSError:
            recorded_here = False
        return sock if recorded_here else real_socket(self, sock, *rest, **more)

    def wrap_bio(self, incoming, outgoing, server_side=False, server_hostname=None, session=None):
        if _text(server_hostname) in asked["outside"]:
            return Unencrypted(incoming, outgoing, self, server_hostname)
        return real_bio(self, incoming, outgoing, server_side, server_hostname, session)

    kind.wrap_socket, kind.wrap_bio = wrap_socket, wrap_bio


def _sockets():
    """Return, by the ports of its ends, what was read of each connection and written to it, and whether it ended.

    And how many bytes of which it has not read; whether the answer is on its way to a connection
    that it has asked for, which has neither ends nor bytes yet; and how many connections wait to be
    accepted.
    """
    told, unread = {}, {}
    busy, waiting = False, 0
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as twin:
                if twin.family not in (socket.AF_INET, socket.AF_INET6) or twin.type != socket.SOCK_STREAM:
                    continue
                info = twin.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                if info[0] == _LISTENS:
                    waiting += struct.unpack_from("I", info, _TO_ACCEPT)[0]
                    continue
                if info[0] == _CONNECTS:
                    busy = True
                    continue
                key = f"{twin.getsockname()[1]}:{twin.getpeername()[1]}"
                waits = struct.unpack("i", fcntl.ioctl(twin, _FIONREAD, b"\0\0\0\0"))[0]
                told[key] = [_count(info, _RECEIVED) - waits, _wrote(info), False, info[0] == _PEER_HAS_ENDED]
                if waits > 0:
                    unread[key] = waits
        except OSError:
            continue  # It was closed meanwhile.
    return told, unread, busy, waiting


def _wrote(info):
    """Return how many bytes the program wrote: what TCP sent twice counts once, and what it has yet to send as well."""
    return _count(info, _SENT) - _count(info, _SENT_AGAIN) + struct.unpack_from("I", info, _NOT_SENT)[0]


def _count(info, offset):
    return struct.unpack_from("Q", info, offset)[0]


# rest -----------------------------------------------------------------------------------------------------------------


def _sleeps():
    """Whether the program's main thread sleeps: one look, that costs it next to nothing."""
    with open(f"/proc/self/task/{os.getpid()}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] == b"S"


def _threads(own):
    """Return, by thread, how often it was switched to: None where one is running."""
    told = {}
    for name in os.listdir("/proc/self/task"):
        if int(name) == own:
            continue
        try:
            told[name] = _thread(name)
        except OSError:
            continue
        if told[name] is None:
            return None
    return told


def _thread(name):
    """Return how often a thread was switched to; None: it is running. Raises OSError where it has ended."""
    with open(f"/proc/self/task/{name}/status") as file:
        lines = dict(line.split(":", 1) for line in file if ":" in line)
    if lines["State"].split()[0] != "S":
        return None
    return lines["voluntary_ctxt_switches"], lines["nonvoluntary_ctxt_switches"]


class Children:
    """The processes that the program started. They say nothing to us, and work for it at the machine's own pace."""

    def __init__(self):
        self._since = {}
        """By process id, when each was first seen, by the machine's clock."""

    @property
    def live(self):
        return bool(self._since)

    def work(self):
        """Whether one of them computes, or is so young that the program may wait for its end or its answer."""
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # There is none, which is so for most programs.
            self._since.clear()
            return False
        now, states = _real["monotonic"](), _descendants(os.getpid())
        self._since = {pid: self._since.get(pid, now) for pid in states}
        return any(
            state in "RD" or (state != "Z" and now - self._since[pid] < _CHILD_SECONDS) for pid, state in states.items()
        )


_CHILD_SECONDS = 1.0
"""Real seconds for which the program is at work while a new child of it sleeps: one that lives on is a companion."""


def _descendants(own):
    """Return, by process id, the state of what a process has started, and of what that has started."""
    found = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue  # It has ended.
        found[int(name)] = int(parent), state.decode()
    ours = {own}
    while more := {pid for pid, (parent, _) in found.items() if parent in ours} - ours:
        ours |= more
    return {pid: found[pid][1] for pid in ours - {own}}


_UNREAD = 0.3
"""Real seconds after which bytes that have arrived, while all threads sleep, are waited for by none."""
_FIRST_LOOK, _SECOND_LOOK, _RARELY = 0.0001, 0.0005, 0.003
"""Real seconds before the first look at whether the program sleeps, before the look that confirms it, and the longest.

The look that confirms comes later than a `_NAP` lasts: a thread that takes one is not at rest.
"""


class Channel:
    """Our end of the peer protocol, on a thread of its own."""

    def __init__(self):
        inward, outward, _ = map(int, os.environ.pop(_PEER).split(","))
        os.environ.pop("JOB_HARNESS_PEER_WATCHED", None)
        self.asked = json.loads(os.environ.pop(_ASKED))
        self._rehearses = self.asked.get("rehearses", False)
        self._inward = os.fdopen(inward, "r", encoding="utf-8")
        self._outward = outward
        self._odd = set()
        self._unread, self._left = ({}, 0.0), {}
        """How far connections with unread bytes were read, and since when; and those that no thread waits for."""
        self._known = set()
        """The connections that there were."""
        self._children = Children()
        self.begun = threading.Event()
        self.seed = ""

    def send(self, report):
        data = json.dumps(report).encode() + b"\n"
        while data:
            data = data[os.write(self._outward, data) :]

    def note(self, what):
        if what not in self._odd:
            self._odd.add(what)
            self.send({"effect": "odd", "actor": None, "data": {"what": what}})

    def serve(self):
        """Take turns until the harness is gone; a fault of our own ends the process, for it would never rest."""
        try:
            self._serve()
        except BaseException:  # noqa: BLE001 - whatever it is, the harness must not wait for a process that cannot rest
            sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)

    def _serve(self):
        self.send({"hello": 1, "clock": True, "by": f"Python {sys.version.split()[0]}"})
        own = threading.get_native_id()
        for line in self._inward:
            message = json.loads(line)
            told = message["with"]
            clock.now = max(clock.now, message["now"])
            clock.skew = told.get("skew", 0)
            for number, when in told.get("skip", ()):
                if number in clock.timers:
                    clock.timers[number].when = when
            if message["do"] == "begin":
                clock.start, self.seed = clock.now, told["seed"]
                self.begun.set()
            elif message["do"] == "fire":
                clock.fire(told["timer"])
            sockets, waiting = self._rest(own, told.get("sockets", {}), message["go"])
            more = {"modules": _packages()} if self._rehearses else {}
            report = {
                "idle": message["go"],
                "next": clock.next(),
                "timers": clock.list_timers(),
                "sockets": sockets,
                **more,
            }
            report["waiting"] = waiting
            report["line"], report["lines"] = _line(threading.get_ident()), _lines_of_tasks()
            self.send({**report, "files": _files, "value": None})

    def _rest(self, own, expected, turn):
        """Wait until the program has nothing left to do; return its connections, and how many wait, while it slept.

        They are looked at between two looks at the threads that are alike. After the second look, a
        thread may read what has just come and go on: the connections would agree with the harness,
        and the program would be at work.
        """
        asleep, self._told_at = None, _real["monotonic"]()
        pause = _FIRST_LOOK
        while True:
            _real["sleep"](_SECOND_LOOK if asleep is not None else pause)
            pause = min(2 * pause, _RARELY)  # Each look takes the lock of the interpreter from the program.
            if not _sleeps():
                asleep = None
                self._say_alive(turn)
                continue
            threads = _threads(own)
            if asleep is not None and threads == asleep[0]:
                return {**self._not_ours(expected), **asleep[1]}, asleep[2]
            asleep = None
            if threads is not None:
                sockets, unread, busy, waiting = _sockets()
                self._known.update(sockets)
                behind = {key for key, (sent, _) in expected.items() if sockets.get(key, (sent,))[0] < sent}
                arrived = all(sockets[key][0] + unread.get(key, 0) >= expected[key][0] for key in behind)
                reads = not arrived or not self._leave({key: sockets[key] for key in behind | unread.keys()})
                asleep = None if busy or reads or self._children.work() else (threads, sockets, waiting)
            self._say_alive(turn)

    def _leave(self, unread):
        """Whether no thread waits for what has arrived on these connections: then it is no work, and counts as seen.

        Such is a notification for a thread that is at something else. One that waits for it is
        awake at once.
        """
        read = {key: told[0] for key, told in unread.items()}
        if read != self._unread[0]:
            self._unread = read, _real["monotonic"]()
        left = not read or read == self._left
        if not left and _real["monotonic"]() - self._unread[1] > _UNREAD:
            left, self._left = True, read
        for told in unread.values():
            told[3] = told[3] or left
        return left

    def _not_ours(self, expected):
        """Return, as they are told, connections that are over, and those of the program's children, who have slept."""
        return {
            key: [read, 0, key in self._known, True]
            for key, (read, _) in expected.items()
            if key in self._known or self._children.live
        }

    def _say_alive(self, turn):
        if _real["monotonic"]() - self._told_at > 0.25:
            self._told_at = _real["monotonic"]()
            self.send({"idle": turn, "next": None, "io": ["threads"]})


def _begin():
    channel = Channel()
    threading.Thread(target=channel.serve, name="job-harness", daemon=True).start()
    channel.begun.wait()
    _install(channel.asked, channel.note)
    chance.begin(channel.seed)
    _follow_forks()


def _follow_forks():
    """Let a child that the program forks go on by itself: our thread, which is told the time, is not in it."""

    def leave():
        clock.leave()
        chance.after_fork()

    os.register_at_fork(before=chance.before_fork, after_in_child=leave)


def _install(asked, note):
    _install_time()

    def refused(*_):
        note("it sets the machine's clock")
        raise PermissionError("the machine's clock is not to be set")

    time.clock_settime = time.clock_settime_ns = refused
    chance.install()
    _install_threads()
    _install_network(asked, note)


# forks ----------------------------------------------------------------------------------------------------------------


def _packages():
    """List the modules that were imported from packages, in order: none of the user's own."""
    folders = tuple(os.path.realpath(folder) + os.sep for folder in {sys.prefix, sys.base_prefix})
    found = []
    for name, module in list(sys.modules.items()):
        try:
            path = module.__spec__.origin or ""
        except AttributeError:
            continue  # It was not imported, but made.
        path = os.path.realpath(path) if os.sep in path else path
        if path in ("built-in", "frozen") or path.startswith(folders) or f"{os.sep}site-packages{os.sep}" in path:
            found.append(name)
    return [name for name in found if name not in ("__main__", "sitecustomize", "usercustomize", "site")]


class ForkingParent:
    """Our end of `subjects.systems.fork_server`: imports packages, and forks whenever a process is wanted."""

    def __init__(self, descriptor):
        self._channel = socket.socket(fileno=descriptor)
        self._asked = json.loads(os.environ[_ASKED])
        self._note = lambda what: None

    def serve(self):
        """Fork until the harness is gone; in a child, return."""
        import signal

        message, _ = self._receive()
        _install(self._asked, lambda what: self._note(what))
        why = self._imports(message["import"])
        if why:
            self._send({"why": why})
            os._exit(0)
        import gc

        gc.freeze()
        inward, outward = os.pipe()
        os.set_blocking(outward, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(outward)
        self._send({"ready": True})
        while True:
            ready = select.select([self._channel, inward], [], [])[0]
            if inward in ready:
                os.read(inward, 4096)
                self._reap()
            if self._channel in ready:
                message, descriptors = self._receive()
                if self._forked(message["environment"], descriptors):
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.close(inward)
                    os.close(outward)
                    return

    def _imports(self, names):
        """Import packages; say why a child would not be what the program would have been."""
        import importlib

        for name in names:
            try:
                importlib.import_module(name)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the program is started in the usual way
                return f"{name} cannot be imported before the program: {type(error).__name__}: {error}"
        threads = len(os.listdir("/proc/self/task"))
        return f"a package starts a thread: there are {threads}" if threads > 1 else ""

    def _receive(self):
        data, descriptors, _, _ = socket.recv_fds(self._channel, 1 << 20, 8)
        if not data:
            os._exit(0)
        return json.loads(data), descriptors

    def _send(self, report):
        self._channel.send(json.dumps(report).encode())

    def _reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._send({"ended": pid, "code": os.waitstatus_to_exitcode(status)})

    def _forked(self, environment, descriptors):
        """Fork, and say who it is. True: this is the child, set up as the harness wants it."""
        lives, says = os.pipe()
        pid = os.fork()
        if pid != 0:
            for descriptor in (says, *descriptors):
                os.close(descriptor)
            os.read(lives, 1)  # It has a session of its own: to end it is to end all of it.
            os.close(lives)
            self._send({"pid": pid})
            return False
        os.setsid()
        os.umask(0o077)
        self._channel.close()
        *channel, out, err = descriptors
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        os.environ.clear()
        os.environ.update(environment)
        os.environ[_PEER] = ",".join(map(str, channel))
        os.close(lives)
        os.close(says)
        return True

    def go_on(self):
        """Be the process that was wanted: wait until it may begin."""
        channel = Channel()
        self._asked.update(channel.asked)
        self._note = channel.note
        threading.Thread(target=channel.serve, name="job-harness", daemon=True).start()
        channel.begun.wait()
        chance.begin(channel.seed)
        _follow_forks()


# lines, where a supervisor owns the time ------------------------------------------------------------------------------


def _tell_lines():
    """Do nothing but note, by connection, from which line of the user's something is sent."""
    _watch_sends(socket.socket)
    sys.meta_path.insert(0, Finder("ssl", lambda ssl: _watch_sends(ssl.SSLSocket)))
    sys.meta_path.insert(0, Finder("psycopg.waiting", _watch_libpq))


def _watch_sends(kind):
    def watched(real):
        def send(self, *given, **more):
            _tell_line(self)
            return real(self, *given, **more)

        return send

    for name in ("send", "sendall"):
        setattr(kind, name, watched(getattr(kind, name)))


def _watch_libpq(waiting):
    """Watch what libpq sends: psycopg 3.2 and 3.3 wait for each answer here, in the stack of who asked."""
    real = waiting.wait

    def wait_for_answer(gen, fileno, *rest, **more):
        with socket.socket(fileno=os.dup(fileno)) as twin:
            _tell_line(twin)
        return real(gen, fileno, *rest, **more)

    waiting.wait = wait_for_answer


def _tell_line(connection):
    frame = sys._getframe(2)
    while frame is not None and not _theirs(frame.f_code.co_filename):
        frame = frame.f_back
    try:
        here, there = connection.getsockname()[1], connection.getpeername()[1]
        path = os.path.abspath(frame.f_code.co_filename)
        into = os.open(os.environ[_LINES], os.O_WRONLY | os.O_APPEND)  # Kept open, the process would start as no copy.
        os.write(into, f"{here}:{there} {frame.f_lineno} {path}\n".encode())
        os.close(into)
    except Exception:  # noqa: BLE001 - a line is a comfort: what has no ports, or no line, must not end its process
        return


def _main():
    if _LINES in os.environ:
        _tell_lines()
    elif _FORKS in os.environ:
        server = ForkingParent(int(os.environ.pop(_FORKS)))
        server.serve()
        server.go_on()
    elif _PEER in os.environ:
        _begin()


if (_ASKED in os.environ or _LINES in os.environ) and sys.platform == "linux":
    _main()
