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
    "DONE",  # the outcome of a verb that succeeded and returns nothing
    "AnomalyKind",  # a named way to break an invariant
    "AsyncJobHarness",  # JobHarness for tests that are coroutines: every method is awaited
    "Capabilities",  # what a queue can do, as data
    "Circumstances",  # what a fault may know about the run in which it happens
    "Claim",  # a worker's right to settle one attempt of one job
    "Contract",  # where an engine documents that it differs: documented behaviour is no anomaly
    "DjangoTasksConformance",  # to subclass: the tests that every backend of Django's tasks must pass
    "Engine",  # protocol: opens queues
    "EngineInfo",  # what an engine declares beyond its verbs
    "FaultKind",  # a kind of fault: when it may happen, what it does, how it reads, and what it excuses
    "Guarantee",  # a promise of a queue that an anomaly breaks
    "Invariant",  # a rule that every run must keep, with the monitor that checks it
    "JavaScript",  # a JavaScript expression as a fake for a TypeScript processor
    "JobHandle",  # a job that a test enqueued: its current status, attempts, output and error
    "JobHarness",  # runs your own processors under the real worker on virtual time
    "JobPlan",  # what a scenario plans for one job
    "JobRequest",  # what a producer asks a queue for
    "JobResult",  # what a processor returns
    "JobView",  # a job as its rows show it
    "Kind",  # when an invariant is judged: always, at rest, or once in a campaign
    "LifecycleMachine",  # to subclass: lets Hypothesis search for a sequence of steps that breaks your engine
    "Monitor",  # to subclass: sees the events of a run, and reports what breaks an invariant
    "NonRetryableError",  # to raise in a processor: the job fails for good
    "Outcome",  # the result of a verb of a queue: done, refused or unknown
    "Point",  # a place inside a verb of a queue at which others may act
    "ProcessorContract",  # to subclass: the checks that every processor must pass
    "QueueConformance",  # to subclass: the tests that every queue must pass
    "QueueState",  # the state of a job in the queue's own row
    "QueueUnderTest",  # protocol: the verbs of a queue
    "Scenario",  # what runs, what goes wrong, and what the result must be
    "Settings",  # leases, timeouts, retries and periods
    "SideEffect",  # something that a job did outside
    "Status",  # the status of a job in the user's row
    "ToolJob",  # the job that a processor gets
    "TypeScriptProcessor",  # a processor in a TypeScript file
    "at_most_once",  # an invariant: a declared side effect happens at most once
    "check_processor",  # checks a processor against the contract, without pytest
    "done",  # the outcome of a verb that succeeded, with the value that it returns
    "effect",  # declares a side effect of the running job
    "exactly_once",  # an invariant: a declared side effect happens once for each job that completes
    "json_problem",  # says why a value is not valid JSON
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
