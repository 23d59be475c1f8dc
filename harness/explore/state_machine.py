"""The lifecycle as a Hypothesis state machine: rules are drawn, the kernel does the stepping, monitors judge.

Hypothesis chooses which step comes next; each rule plays one step of the scenario language, so that a failing example
*is* a scenario. Nothing else is undetermined: order and jitter are the boring ones.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.control import current_build_context
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

from harness.errors import LimitReached, UsageError
from harness.explore.machine_events import tell
from harness.explore.machine_failure import breach, failures_directory
from harness.explore.machine_features import DRAWN, PLAIN, allowed, limited, scheduled
from harness.explore.machine_mishaps import Mishaps
from harness.explore.machine_producers import Producers
from harness.explore.machine_shrink import smallest
from harness.explore.machine_workers import Workers
from harness.invariants import Anomaly, gravity
from harness.model.settings import Settings
from harness.port import Engine, as_engine
from harness.scenario.scenario import Scenario

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""What Hypothesis does by default: all but shrinking and explaining, which are done here."""


class LifecycleMachine(Producers, Workers, Mishaps, RuleBasedStateMachine):
    """Subclass it, answer an engine from `make_engine`, and take `.TestCase` as a test.

    The machine closes the queues that it opens, never the engine. A breach raises `LifecycleFailure` with the scenario
    as YAML, which is also written to `failures_directory()`. The scenario is made small here, once, when Hypothesis
    replays its failing example; Hypothesis' own shrinking adds little to that and is left out by default, and so is
    the deadline. Hypothesis settings go to `TestCase.settings`, or decorate the class, as ever.
    """

    queue_settings: ClassVar[Settings] = Settings()
    """What the queue and its workers run under; not to be confused with Hypothesis' own `TestCase.settings`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.TestCase.settings = settings(cls.TestCase.settings, deadline=None, phases=PHASES)

    def __init__(self) -> None:
        super().__init__()
        self._outer = sys.exc_info()[1]
        self.engine = as_engine(self.make_engine())
        if self.engine.info.processes is not None:
            raise UsageError(
                f"{type(self).__name__}: {self.engine.info.name} is an application: its steps are its own, and the "
                "rules of this machine play the verbs of a queue",
                hint="Search it with `job-harness explore`, or give make_engine the queue that it stands on.",
            )
        self._session = None
        self._director = None
        self._feature = PLAIN
        self._schedules = ()
        self._plans = []
        self._steps = []
        self._closed = False

    def make_engine(self) -> Engine:
        """Answer the engine under test; called once an example."""
        raise NotImplementedError(
            f"{type(self).__name__} names no engine: override make_engine and answer one, such as MemoryEngine()"
        )

    def failures_directory(self) -> Path:
        """Answer where failing scenarios are written."""
        return failures_directory()

    @initialize(
        max_attempts=st.sampled_from(("as set", "as set", "1", "2")),
        batch=st.sampled_from((1, 1, 2)),
        heartbeats=st.sampled_from((False, False, True)),
        retry_delay=st.sampled_from(("as set", "as set", "near its cap")),
        feature=st.sampled_from(DRAWN),
        ending=st.sampled_from(("succeeds", "fails once", "fails finally", "kills its worker")),
    )
    def begin(
        self, max_attempts: str, batch: int, heartbeats: bool, retry_delay: str, feature: str, ending: str
    ) -> None:
        """Draw the configuration and start everybody."""
        settings = self.queue_settings
        if max_attempts != "as set":
            settings = settings.changed(max_attempts=int(max_attempts))
        if settings.batch_size == 1 and self.engine.info.capabilities.heartbeat and (heartbeats or batch > 1):
            settings = settings.changed(batch_size=batch, heartbeat_interval=settings.lease // 4)
        if retry_delay != "as set":
            settings = settings.changed(retry_delay=max(settings.retry_delay, settings.retry_delay_max * 3 // 4))
        self._feature = allowed(feature, self.engine.info.capabilities)
        settings = limited(self._feature, settings)
        self._schedules = tuple(scheduled(self._feature, ending, settings))
        self._session = self._open(Scenario(settings=settings, workers=self.workers, jobs=self._schedules))
        self._director = self._session.begin()
        self._director.clients_first()  # as they are in the scenario that does it again

    # judging --------------------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_breached(self) -> None:
        """Judge what must always hold."""
        anomalies = self.session.judge.anomalies
        if anomalies:
            raise self._breach(min(anomalies, key=lambda anomaly: (gravity(anomaly.name), anomaly.event)))

    def _breach(self, anomaly: Anomaly) -> Exception:
        """Make the scenario small where this failure is the one that is shown: Hypothesis may try many before."""
        self._close()
        scenario, shown, replays = self.scenario, anomaly, True
        if current_build_context().is_final:
            scenario, found = smallest(scenario, anomaly.name, self._open, base=self.queue_settings)
            shown = found or anomaly
            replays = found is not None
        name, directory = type(self).__name__, self.failures_directory()
        return breach(shown, scenario, replays=replays, name=name, directory=directory)

    def teardown(self) -> None:
        """Heal, settle and judge at rest, unless the example already ended otherwise; tell what it met."""
        if self._session is None:
            return
        try:
            if sys.exc_info()[1] is self._outer:
                self.session.rest()
                self.nothing_is_breached()
        except LimitReached as limit:
            raise self._no_rest(limit) from None
        finally:
            self._close()
            tell(self.session.recorder.history)

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self.session.close()
