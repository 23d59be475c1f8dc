"""What keeps an explored test from being forked."""

from __future__ import annotations

import logging
import threading

import pytest

from job_harness.search.explored import isolation, traces


def test_a_thread_that_ends_soon_keeps_no_test_from_being_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Waiting(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            if self.name == "ends":
                release.set()
                timeout = None
            super().join(timeout)

    before, release, stays = threading.enumerate(), threading.Event(), threading.Event()
    Waiting(target=release.wait, name="ends").start()
    assert isolation.unforkable_threads(before) == ""
    monkeypatch.setattr(isolation, "ENDING_SECONDS", 0.0)
    Waiting(target=stays.wait, name="stays", daemon=True).start()
    assert "'stays'" in isolation.unforkable_threads(before)
    stays.set()


def test_a_logger_of_a_library_or_one_that_is_as_it_is_made_is_no_trace_of_a_run() -> None:
    names = ("pytest.of_this_test", "made_by_this_test", "set_by_this_test")
    library, made, own = map(logging.getLogger, names)
    library.setLevel(logging.ERROR)
    own.setLevel(logging.ERROR)
    assert [traces._is_set(each) for each in (library, made, own)] == [False, False, True]
