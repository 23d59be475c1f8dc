"""Testing harness and simulation framework for job processors and the queues that feed them.

What stands in `__all__` is what other code may build on: `from harness import JobHarness`. `docs/api.md` says what that
promises. Each name is imported when it is first asked for, so that `import harness` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.adapters.reference.application import JobResult, NonRetryableError, ToolJob
    from harness.conformance import QueueConformance
    from harness.conformance.django_tasks import DjangoTasksConformance
    from harness.explore.state_machine import LifecycleMachine
    from harness.faults import Circumstances, FaultKind
    from harness.history.event import SideEffect
    from harness.history.outcome import DONE, Outcome, done
    from harness.invariants.effects import at_most_once, exactly_once
    from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor
    from harness.model.job import JobView
    from harness.model.json_value import json_problem
    from harness.model.lifecycle import QueueState, Status
    from harness.model.retry import retry_delay
    from harness.model.settings import Settings
    from harness.port import Capabilities, Claim, Contract, Engine, EngineInfo, JobRequest, QueueUnderTest
    from harness.processors.assertions import JobHandle
    from harness.processors.async_harness import AsyncJobHarness
    from harness.processors.contract import ProcessorContract, check_processor
    from harness.processors.delivery import effect, step
    from harness.processors.job_harness import JobHarness
    from harness.processors.typescript import JavaScript, TypeScriptProcessor
    from harness.scenario.job_plan import JobPlan
    from harness.scenario.scenario import Scenario
    from harness.sim.request import Point
    from harness.wiring import open_engine

__version__ = "0.1.0"

__all__ = [
    "DONE",  # the outcome of a verb that did what it was asked and has nothing to tell
    "AnomalyKind",  # a named breach of an invariant
    "AsyncJobHarness",  # JobHarness for tests that are coroutines
    "Capabilities",  # what a queue can do, as data
    "Circumstances",  # what a fault may know of the run that it strikes
    "Claim",  # a worker's right to settle one attempt of one job
    "Contract",  # where an engine says that it differs: what is documented is no anomaly
    "DjangoTasksConformance",  # to subclass: what every backend of Django's tasks must keep
    "Engine",  # protocol: opens queues
    "EngineInfo",  # all that an engine may have beyond its verbs
    "FaultKind",  # something that can be made to go wrong: how it strikes, reads, and what it excuses
    "Guarantee",  # what a user can no longer rely on once an anomaly showed
    "Invariant",  # a property of every run, with the monitor that watches it
    "JavaScript",  # an expression that stands in for something around a TypeScript processor
    "JobHandle",  # a job that a test enqueued: its status, attempts, output and error, read live
    "JobHarness",  # runs your own processors under the real worker on virtual time
    "JobPlan",  # what a scenario plans for one job
    "JobRequest",  # what a producer asks a queue for
    "JobResult",  # what a processor returns
    "JobView",  # a job as its rows are
    "Kind",  # when an invariant is judged: always, at rest, or once in a campaign
    "LifecycleMachine",  # to subclass: lets Hypothesis look for a breach of your engine
    "Monitor",  # to subclass: sees the events of a run and reports breaches
    "NonRetryableError",  # to raise in a processor: the job fails for good
    "Outcome",  # what a verb of a queue came to: done, refused or unknown
    "Point",  # a place inside a verb of a queue at which others may act
    "ProcessorContract",  # to subclass: what every processor must keep
    "QueueConformance",  # to subclass: what every queue must keep
    "QueueState",  # the state of a job in the queue's own row
    "QueueUnderTest",  # protocol: the verbs of a queue
    "Scenario",  # what is at work, what goes wrong, what must come out
    "Settings",  # leases, timeouts, retries and periods
    "SideEffect",  # something that a job did to the world outside
    "Status",  # the status of a job in the user's row
    "ToolJob",  # what a processor is given
    "TypeScriptProcessor",  # a processor in a TypeScript file
    "at_most_once",  # an invariant: a declared side effect happens at most once
    "check_processor",  # holds a processor to the contract, for runners other than pytest
    "done",  # the outcome of a verb that did what it was asked, with what it tells
    "effect",  # declares a side effect of the job at work
    "exactly_once",  # an invariant: a declared side effect happens once for each job that completes
    "json_problem",  # says why JSON cannot hold a value
    "open_engine",  # opens an engine by its name on the command line
    "retry_delay",  # how long a failed attempt waits for the next one
    "step",  # names a point at which others may act and a worker may die
]

if not TYPE_CHECKING:
    _HOMES = {
        "harness.adapters.reference.application": ("JobResult", "NonRetryableError", "ToolJob"),
        "harness.conformance": ("QueueConformance",),
        "harness.conformance.django_tasks": ("DjangoTasksConformance",),
        "harness.explore.state_machine": ("LifecycleMachine",),
        "harness.faults": ("Circumstances", "FaultKind"),
        "harness.history.event": ("SideEffect",),
        "harness.history.outcome": ("DONE", "Outcome", "done"),
        "harness.invariants.property": ("AnomalyKind", "Guarantee", "Invariant", "Kind", "Monitor"),
        "harness.model.job": ("JobView",),
        "harness.model.json_value": ("json_problem",),
        "harness.model.lifecycle": ("QueueState", "Status"),
        "harness.model.retry": ("retry_delay",),
        "harness.model.settings": ("Settings",),
        "harness.port": ("Capabilities", "Claim", "Contract", "Engine", "EngineInfo", "JobRequest", "QueueUnderTest"),
        "harness.processors.async_harness": ("AsyncJobHarness",),
        "harness.processors.contract": ("ProcessorContract", "check_processor"),
        "harness.processors.delivery": ("effect", "step"),
        "harness.invariants.effects": ("at_most_once", "exactly_once"),
        "harness.processors.assertions": ("JobHandle",),
        "harness.processors.job_harness": ("JobHarness",),
        "harness.processors.typescript": ("JavaScript", "TypeScriptProcessor"),
        "harness.scenario.job_plan": ("JobPlan",),
        "harness.scenario.scenario": ("Scenario",),
        "harness.sim.request": ("Point",),
        "harness.wiring": ("open_engine",),
    }

    def __getattr__(name):
        """Import a public name when it is first asked for."""
        from importlib import import_module

        for module, names in _HOMES.items():
            if name in names:
                found = globals()[name] = getattr(import_module(module), name)
                return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})
