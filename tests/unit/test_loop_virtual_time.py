"""The asyncio loop on virtual time: when time moves, when it stands still, and what is said when it cannot go on."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import signal
import socket
import threading
from collections.abc import Coroutine, Iterator

import pytest

from job_harness.core.sim.lifetime import Lifetime
from job_harness.core.sim.loop import Callback, Deadlock, VirtualLoop, _name_of, describe_tasks
from job_harness.errors import LimitReached, UsageError
from job_harness.worlds.patience import ready


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop(real_patience=5)
    yield loop
    loop.close()


def test_a_sleep_of_fifty_years_ends_at_exactly_that_time(loop: VirtualLoop) -> None:
    loop.run(asyncio.sleep(50 * 365 * 86_400.25))
    assert loop.time() == 50 * 365 * 86_400.25


def test_timers_fire_in_the_order_of_their_times(loop: VirtualLoop) -> None:
    fired: list[tuple[str, float]] = []
    for name, seconds in (("late", 3.5), ("early", 0.1), ("middle", 2.0)):
        loop.call_later(seconds, lambda name=name: fired.append((name, loop.time())))  # type: ignore[misc]
    loop.run_until_idle()
    assert fired == [("early", 0.1), ("middle", 2.0), ("late", 3.5)]


def test_a_timeout_cancels_on_virtual_time(loop: VirtualLoop) -> None:
    async def work() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await asyncio.Event().wait()
        return loop.time()

    assert loop.run(work()) == 600


def test_advance_does_what_is_due_and_ends_at_exactly_that_time(loop: VirtualLoop) -> None:
    fired: list[float] = []
    loop.call_later(5, lambda: fired.append(loop.time()))
    loop.call_later(10, lambda: fired.append(loop.time()))
    loop.advance(7)
    assert (fired, loop.time()) == ([5], 7)
    loop.advance(3)
    assert (fired, loop.time()) == ([5, 10], 10)


def test_after_a_jump_overdue_timers_fire_late(loop: VirtualLoop) -> None:
    fired: list[float] = []
    loop.call_later(5, lambda: fired.append(loop.time()))
    loop.jump(60)
    assert fired == []
    loop.advance(0)
    assert fired == [60]


def test_a_timer_finer_than_the_clock_of_the_kernel_is_reached_and_not_waited_for_anew(loop: VirtualLoop) -> None:
    until, waits = 1 / 3, 0

    async def wait() -> None:
        nonlocal waits
        while loop.time() < until:
            waits += 1
            await asyncio.sleep(until - loop.time())

    task = loop.create_task(wait())
    loop.advance(0.0)
    loop.jump(0.333333)  # the instant of the kernel, in whole microseconds
    loop.reach_timer()
    loop.advance(0.0)

    assert task.done()
    assert waits == 1


def test_time_never_moves_backwards(loop: VirtualLoop) -> None:
    for move in (loop.advance, loop.jump):
        for seconds in (-1, float("nan")):
            with pytest.raises(UsageError, match="cannot move by"):
                move(seconds)


def test_run_until_stops_at_the_first_idle_instant_at_which_the_condition_holds(loop: VirtualLoop) -> None:
    seen: list[int] = []

    async def count() -> None:
        for number in range(10):
            await asyncio.sleep(1)
            seen.append(number)

    task = loop.create_task(count())
    loop.run_until(lambda: len(seen) == 4)
    assert (loop.time(), len(seen)) == (4, 4)
    loop.run_until(task.done)
    assert loop.time() == 10


def test_a_deadlock_names_the_waiting_task_and_its_line(loop: VirtualLoop) -> None:
    async def wait_for_godot() -> None:
        await asyncio.Event().wait()

    task = loop.create_task(wait_for_godot(), name="vladimir")
    with pytest.raises(Deadlock, match=r"vladimir: .*wait_for_godot at .*test_loop_virtual_time\.py:\d+"):
        loop.run_until(task.done)
    task.cancel()
    loop.run_until_idle()


def test_a_task_that_spins_reaches_a_limit_that_names_it() -> None:
    loop = VirtualLoop(callback_limit=1000)

    async def spin() -> None:
        while True:  # noqa: ASYNC110 - the mistake under test
            await asyncio.sleep(0)

    task = loop.create_task(spin(), name="spinner")
    with pytest.raises(LimitReached, match=r"still not idle after 1000 callbacks(.|\n)*spinner"):
        loop.run_until_idle()
    task.cancel()
    loop.run_until_idle()
    loop.close()


def test_time_stands_still_while_a_thread_of_the_executor_works(loop: VirtualLoop) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> float:
        begun.set()
        assert go_on.wait(5)
        return loop.time()

    async def release() -> None:
        while not begun.is_set():  # noqa: ASYNC110 - a thread's event, and no time may pass
            await asyncio.sleep(0)
        threading.Timer(0.01, go_on.set).start()

    async def work() -> float:
        loop.call_later(1000, lambda: None)
        answer, _ = await asyncio.gather(asyncio.to_thread(slow), release())
        return answer

    assert loop.run(work()) == 0
    loop.run(loop.shutdown_default_executor())
    assert loop.time() == 0


def test_a_thread_holds_time_even_after_its_future_was_cancelled(loop: VirtualLoop) -> None:
    go_on = threading.Event()
    ended: list[float] = []

    def slow() -> None:
        assert go_on.wait(5)
        ended.append(loop.time())

    async def work() -> None:
        future = loop.run_in_executor(None, slow)
        await asyncio.sleep(0)
        future.cancel()
        threading.Timer(0.02, go_on.set).start()
        await asyncio.sleep(3600)

    loop.run(work())
    assert ended == [0]
    loop.run(loop.shutdown_default_executor())


def test_held_work_of_a_plain_thread_stops_time_until_it_is_let_go(loop: VirtualLoop) -> None:
    async def work() -> float:
        done = loop.create_future()
        with loop.outstanding("a thread"):
            threading.Timer(0.01, lambda: loop.call_soon_threadsafe(done.set_result, loop.time())).start()
            return float(await done)

    loop.call_later(60, lambda: None)
    assert loop.run(work()) == 0


def test_work_that_never_ends_is_an_error_that_names_it_and_not_a_hang() -> None:
    loop = VirtualLoop(real_patience=0.02)
    token = loop.hold("the printer")
    with pytest.raises(LimitReached, match="waiting for the printer"):
        loop.run_until_idle()
    loop.let_go(token)
    loop.close()


def test_time_stands_still_while_a_socket_has_not_answered(loop: VirtualLoop) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)

    async def ask() -> tuple[bytes, float]:
        threading.Timer(0.01, far.send, (b"hello",)).start()
        async with asyncio.timeout(1):
            return await loop.sock_recv(near, 10), loop.time()

    with near, far:
        assert loop.run(ask()) == (b"hello", 0)


def test_a_reader_of_which_nothing_is_known_holds_time_for_a_grace_and_is_named(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = socket.socketpair()
    heard: list[bytes] = []
    doubts: list[str] = []
    monkeypatch.setattr(loop.hooks, "note_doubt", doubts.append)
    with near, far:
        loop.add_reader(near, lambda: heard.append(near.recv(10)))
        loop.advance(3600)
        (doubt,) = doubts
        assert f"the descriptor {near.fileno()}, which " in doubt
        assert "has said nothing for 0.5 s of real time, and time moved on" in doubt
        far.send(b"notify")
        loop.advance(1)
        assert (heard, loop.time()) == ([b"notify"], 3601)
        loop.remove_reader(near)


def test_the_loop_cannot_be_moved_from_inside_itself(loop: VirtualLoop) -> None:
    async def inside() -> None:
        loop.advance(1)

    with pytest.raises(UsageError, match=r"await asyncio\.sleep"):
        loop.run(inside())


def test_the_loop_cannot_be_run_under_another_loop(loop: VirtualLoop) -> None:
    async def other() -> None:
        loop.run(asyncio.sleep(1))

    with pytest.raises(UsageError, match="another event loop is running"):
        asyncio.run(other())


def test_whoever_listens_hears_every_move_of_time(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[float] = []
    monkeypatch.setattr(loop.hooks, "note_move", heard.append)
    loop.call_later(2, lambda: None)
    loop.advance(5)
    loop.jump(1)
    assert heard == [2, 5, 6]


def test_work_of_a_thread_goes_by_the_name_of_the_users_function() -> None:
    as_to_thread_does = functools.partial(contextvars.copy_context().run, functools.partial(describe_tasks, None))
    assert _name_of(as_to_thread_does) == "describe_tasks"


def test_a_signal_is_heard_where_nothing_else_is_registered(loop: VirtualLoop) -> None:
    async def hear() -> float:
        heard = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, heard.set)
        signal.raise_signal(signal.SIGUSR1)
        await asyncio.wait_for(heard.wait(), 5)
        loop.remove_signal_handler(signal.SIGUSR1)
        return loop.time()

    assert loop.run(hear()) == 0


def test_a_runner_ends_it_like_any_other_loop() -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(asyncio.sleep(86_400))
        assert runner.run(asyncio.to_thread(lambda: 5)) == 5
        assert runner.get_loop().time() == 86_400


def test_a_pause_ends_for_what_is_further_inside_too_but_not_for_what_is_paused_itself(
    loop: VirtualLoop,
) -> None:
    outer = Lifetime("worker")
    inner, other = Lifetime("delivery", parent=outer), Lifetime("another delivery", parent=outer)
    woke: list[tuple[str, float]] = []

    async def sleep_twice(name: str) -> None:
        for _ in range(2):
            await asyncio.sleep(1)
            woke.append((name, loop.time()))

    for life in (inner, other):
        life.context().run(loop.create_task, sleep_twice(life.name))
    loop.advance(0.5)
    loop.lives.pause(outer)
    loop.lives.pause(other)
    inner.context().run(loop.call_later, 1, lambda: woke.append(("timer", loop.time())))
    loop.advance(4)
    loop.lives.resume(outer)
    loop.advance(5)
    assert woke == [("timer", 4.5), ("delivery", 4.5), ("delivery", 5.5)]
    loop.lives.resume(other)
    loop.advance(2)
    assert woke[3:] == [("another delivery", 9.5), ("another delivery", 10.5)]


def test_bytes_for_what_is_paused_stay_unread_and_let_the_others_rest(loop: VirtualLoop) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    life, read, rounds = Lifetime("delivery"), list[bytes](), list[int]()

    async def wait_as_psycopg_does() -> None:
        while not read:
            bytes_came = loop.create_future()
            loop.add_reader(ours, lambda future: future.done() or future.set_result(None), bytes_came)
            await bytes_came
            loop.remove_reader(ours)
            read.append(ours.recv(8))

    with ours, theirs:
        life.context().run(loop.create_task, wait_as_psycopg_does())
        loop.run(asyncio.sleep(0))
        loop.lives.pause(life)
        theirs.send(b"answer")
        loop.advance(60)
        rounds.append(loop.callbacks)
        assert read == []
        loop.lives.resume(life)
        loop.advance(1)
    assert read == [b"answer"]
    assert rounds[0] < 100


def test_bytes_whose_reader_stands_at_a_gate_are_named_once_and_time_moves_on(loop: VirtualLoop) -> None:
    """As under psycopg: it takes its reader away only once it was told, and reads only then."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    standing, heard = list[Callback](), list[tuple[bytes, float]]()

    def guard(life: Lifetime, callback: Callback) -> Callback:
        return lambda *arguments: standing.append(lambda: callback(*arguments))

    loop.guard = guard
    with ours, theirs:
        ours_life = Lifetime("delivery").context()
        ours_life.run(loop.add_reader, ours, lambda: heard.append((ours.recv(8), loop.time())))
        theirs.send(b"answer")
        loop.advance(60)
        assert (len(standing), heard, loop.time()) == (1, [], 60)
        standing.pop()()
        assert heard == [(b"answer", 60)]
        theirs.send(b"more")
        loop.advance(1)
        ours_life.run(loop.remove_reader, ours)
        standing.pop()()
    assert heard == [(b"answer", 60)], "what was removed at its gate hears nothing"


def test_a_reader_that_came_back_from_its_gate_dies_with_the_lifetime_that_waits(loop: VirtualLoop) -> None:
    """It was put back by the kernel, outlived the crash, and was called for the same unread bytes for ever."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    standing, heard = list[Callback](), list[int]()
    loop.guard = lambda life, callback: lambda *given: standing.append(callback)
    with ours, theirs:
        life = Lifetime("delivery")
        life.context().run(loop.add_reader, ours, heard.append, 1)
        theirs.send(b"answer")
        loop.advance(1)
        standing.pop()()
        loop.lives.sever(life)
        loop.advance(1)
        assert (heard, standing, loop.remove_reader(ours)) == ([1], [], False)


def test_a_timer_that_is_cancelled_at_its_gate_does_not_fire() -> None:
    loop, standing, fired = VirtualLoop(), [], []
    loop.guard = lambda life, callback: lambda *given: standing.append(callback)
    life = Lifetime("a processor")
    timers = [loop.call_later(1, fired.append, number, context=life.context()) for number in range(2)]
    loop.run_until_idle()
    timers[0].cancel()
    for callback, number in zip(standing, range(2), strict=True):
        callback(number)
    loop.close()
    assert fired == [1]


class _Asking(asyncio.Protocol):
    """Asks once, and has a future for the answer."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.answer.set_result(data)


class _Locks:
    """A database of which one session waits for a lock."""

    def lock_waiters(self) -> int:
        return 1


@pytest.mark.parametrize("locks", [None, _Locks()])
def test_what_is_asked_is_answered_before_the_next_request_is_sent_unless_it_waits_for_a_lock(
    locks: _Locks | None,
) -> None:
    loop = VirtualLoop()
    loop.order_answers(locks)
    pairs = [socket.socketpair() for _ in range(2)]
    heard: list[int] = []
    asked_early: list[object] = []
    other_heard = threading.Event()

    async def ask(number: int) -> None:
        transport, protocol = await loop.create_connection(_Asking, sock=pairs[number][0])
        transport.write(b"?")
        await protocol.answer
        heard.append(number)
        if number == 1:
            other_heard.set()
        transport.close()

    def answer() -> None:
        if locks is None:
            pairs[0][1].recv(1)
            asked_early.extend(ready([pairs[1][1]], seconds=0.1)[0])
            pairs[0][1].send(b"!")
        pairs[1][1].recv(1)
        pairs[1][1].send(b"!")
        if locks is not None:
            other_heard.wait(5)  # The first is answered once the second has gone on.
            pairs[0][1].send(b"!")

    thread = threading.Thread(target=answer)
    thread.start()
    loop.run(_together(ask(0), ask(1)))
    thread.join()
    loop.close()
    for one, other in pairs:
        one.close()
        other.close()
    assert heard == ([0, 1] if locks is None else [1, 0])
    assert not asked_early


class _Greeting(_Asking):
    """Asks as soon as it is connected, before anything awaits the answer or reads it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"?")


def test_what_is_asked_as_a_connection_is_made_is_answered_in_its_order() -> None:
    """As asyncpg's start-up is: of two jobs that connected at once, the machine decided who went on first."""
    loop, locks = VirtualLoop(), _Locks()
    locks.lock_waiters = lambda: 0  # type: ignore[method-assign]
    loop.order_answers(locks)
    pairs = [socket.socketpair() for _ in range(2)]
    heard: list[int] = []
    other_heard = threading.Event()

    async def ask(number: int) -> None:
        transport, protocol = await loop.create_connection(_Greeting, sock=pairs[number][0])
        await protocol.answer
        heard.append(number)
        other_heard.set()
        transport.close()

    def answer() -> None:
        for _, theirs in pairs:
            theirs.recv(1)
        pairs[1][1].send(b"!")
        other_heard.wait(0.1)  # It is heard in its turn, so this wait ends by its limit.
        pairs[0][1].send(b"!")

    thread = threading.Thread(target=answer)
    thread.start()
    loop.run(_together(ask(0), ask(1)))
    thread.join()
    loop.close()
    for one, other in pairs:
        one.close()
        other.close()
    assert heard == [0, 1]


async def _together(*coroutines: Coroutine[object, object, None]) -> None:
    await asyncio.gather(*coroutines)
