"""One process of a crew: opens the target, does the stretches that it is given, and ends when its pipe does."""

from __future__ import annotations

import contextlib
import os
import signal
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from harness.explore.crew import Orders
from harness.explore.sampling import Sampler
from harness.explore.tally import Tally, Trouble
from harness.explore.watchdog import Hung, Watchdog
from harness.run.session import Limits


def serve(descriptor: int) -> None:
    """Answer requests until the parent goes. Ctrl-C is the parent's to answer; what a target prints goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    pipe: Connection[Any, Any] = Connection(descriptor)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(pipe)


def _serve(pipe: Connection[Any, Any]) -> None:
    orders: Orders = pipe.recv()
    try:
        engine = _open(orders)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever keeps it from opening is told to the parent
        _, first, _ = pipe.recv()
        pipe.send(Tally(first, trouble=Trouble.of(error, engine=orders.target)))
        return
    try:
        with Watchdog(orders.patience) as watchdog:
            _work(pipe, _sampler(orders, engine, watchdog))
    finally:
        engine.close()


def _open(orders: Orders) -> Any:
    module, _, name = orders.opener.partition(":")
    return getattr(import_module(module), name)(orders.target)


def _sampler(orders: Orders, engine: Any, watchdog: Watchdog) -> Sampler:
    return Sampler(
        engine,
        orders.settings,
        orders.looking_for,
        strategy=orders.strategy,
        keep_going=orders.keep_going,
        watchdog=watchdog,
        limits=Limits(steps=orders.steps),
    )


def _work(pipe: Connection[Any, Any], sampler: Sampler) -> None:
    while True:
        request = pipe.recv()
        if request is None:
            pipe.send(_again(sampler))
            continue
        seed, first, count = request
        tally = Tally(first)
        sampler.stretch(tally, seed=seed, count=count)
        pipe.send(tally)


def _again(sampler: Sampler) -> Any:
    try:
        return sampler.again()
    except (Hung, Exception):  # noqa: BLE001 - it went through once; what it does now is no finding
        return None
