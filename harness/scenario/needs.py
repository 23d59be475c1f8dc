"""What a queue must be able to do for a scenario to mean anything on it."""

from __future__ import annotations

from harness.scenario.scenario import Scenario


def needed_capabilities(scenario: Scenario) -> dict[str, str]:
    """Answer the capabilities that a scenario needs, each with what needs it."""
    needed: dict[str, str] = {}
    never_there = {plan.name for plan in scenario.jobs if plan.transaction is not None or plan.payload is not None}
    if scenario.settings.heartbeat_interval:
        needed["heartbeat"] = "settings.heartbeat_interval"
    for name in ("concurrency", "tool_concurrency"):
        if getattr(scenario.settings, name):
            needed.setdefault("concurrency_limits", f"settings.{name}")
    if scenario.settings.stuck_timeout < scenario.settings.lease:
        needed["maintenance"] = "a stuck_timeout that is shorter than the lease"
    for name, expectation in scenario.expect.items():
        if expectation.status == "gone" and name not in never_there:
            needed.setdefault("maintenance", f"the deletion of {name}")
        if expectation.output is not None or expectation.error is not None:
            needed.setdefault("results", f"what is expected of {name}")
    for plan in scenario.jobs:
        wanted = {
            "priorities": plan.priority != 0,
            "unique": plan.unique_key is not None,
            "serial_keys": plan.serial_key is not None,
            "dead_letters": plan.dead_letter is not None,
            "transactions": plan.transaction is not None,
            "schedules": plan.scheduled,
            "inputs": plan.payload is not None,
            "start_after": plan.start_after is not None,
            "cancel": plan.cancel_after is not None,
            "retry": plan.retry_after is not None,
        }
        for name, wants in wanted.items():
            if wants:
                needed.setdefault(name, f"job {plan.name}")
    for step in scenario.steps:
        if step.kind == "check" and step.expect == "gone" and step.job not in never_there:
            needed.setdefault("maintenance", f"the step `{step.text}`")
        does = {"act": step.verb, "upkeep": step.actor, "stop": "release"}.get(step.kind, step.kind)
        if step.actor == "maintenance" or (step.kind == "pause" and step.actor == "queue"):
            does = "maintenance"  # Where the queue's own upkeep stands still, maintenance has to do the rescue.
        if does in ("maintenance", "heartbeat", "release", "cancel", "retry"):
            needed.setdefault(does, f"the step `{step.text}`")
    return needed
