"""From a place in an exhaustive search to a finding like any other: a tape that replays, made as small as it gets."""

from __future__ import annotations

from dataclasses import replace

from harness.explore.exhaustive import Explorer, Sighting
from harness.explore.finding import Finding
from harness.explore.positions import Unfaithful
from harness.explore.script import Path, Script
from harness.explore.shrink import Shrinker
from harness.model.settings import Settings
from harness.port import Engine
from harness.run.session import Limits, Session
from harness.run.verdict import Run
from harness.scenario.scenario import Scenario

REPLAYED = Limits(steps=20_000)


def walk(path: Path, scenario: Scenario, engine: Engine, explorer: Explorer) -> Run:
    """Do the run that a path leads to, from an empty queue to its verdict; its tape is part of it."""
    choices = Script(path, jitters=explorer.scope.jitters)
    session = Session(scenario, engine=engine, choices=choices, faults=explorer.scope.faults, limits=REPLAYED)
    session.kernel.every_turn = True
    return session.run()


def finding_of(explorer: Explorer, sighting: Sighting) -> Finding:
    """Answer the finding: the shortest run, replayed from its tape alone, and shrunk.

    Raises Unfaithful where the anomaly does not show when the run is done from the start.
    """
    engine, anomaly = explorer.engine, sighting.anomaly
    scenario = explorer.scenario_of(sighting.node)
    run = walk(explorer.path(sighting.node), scenario, engine, explorer)
    scenario = replace(scenario, tape=run.tape)
    if anomaly in run.found:
        run = Session(scenario, engine=engine, limits=REPLAYED).run()
    if anomaly not in run.found:
        raise Unfaithful(
            f"{anomaly} showed in the search of {engine.info.name} and does not show when its run is done "
            "from the start",
            hint="Something decides what the queue does that its snapshot does not hold, or an actor remembers more "
            "than it was told; or declare Capabilities(snapshot=False).",
        )

    def open_session(candidate: Scenario) -> Session:
        return Session(candidate, engine=engine, limits=REPLAYED, until=anomaly)

    shrinker = Shrinker(run, anomaly, open_session, base=Settings())
    minimal = True
    try:
        shrinker.shrink()
    except KeyboardInterrupt:
        minimal = False
    smallest = Session(shrinker.scenario, engine=engine, limits=REPLAYED).run()
    states = explorer.progress.states
    return Finding(anomaly, shrinker.scenario, smallest, 0, states, shrinker.runs, minimal)
