"""How runs are drawn: every strategy repeats itself, and each disturbs a run in its own way."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from job_harness.core.faults import FaultPlan, families, family_of, interferences, read_option
from job_harness.core.faults.processes import PAST
from job_harness.core.model.duration import DAY
from job_harness.core.model.settings import Settings
from job_harness.core.run.session import Session, as_on_tape
from job_harness.core.scenario.job_plan import Payload
from job_harness.core.sim.choices import FIRST, Replay, Uniform
from job_harness.core.sim.clock import Clocks
from job_harness.engines.memory import MemoryEngine
from job_harness.search.coverage import is_observed
from job_harness.search.deviations import GatePlace, places_to_strike
from job_harness.search.finding import REPEATED_EVERY
from job_harness.search.sampling import Sampler, run_seed
from job_harness.search.strategy import TURNS, Strategy, SwarmDrawing, policy_of
from job_harness.search.workload import BIG, EDGE_KEYS, ENDINGS, draw

SEEDS = [run_seed(3, number) for number in range(12)]


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_seed_draws_the_same_run_twice(strategy: Strategy) -> None:
    sampler = Sampler(MemoryEngine(), strategy=strategy)
    for seed in SEEDS:
        assert sampler.sample(seed).history.events == sampler.sample(seed).history.events


@pytest.mark.parametrize("strategy", list(Strategy))
def test_the_tape_of_a_drawn_run_replays_it(strategy: Strategy) -> None:
    for seed in SEEDS:
        run = Sampler(MemoryEngine(), strategy=strategy).sample(seed)
        again = Session(
            replace(run.scenario, tape=run.tape), engine=MemoryEngine(), choices=Replay(run.tape), faults=as_on_tape()
        ).run()
        assert again.history.events == run.history.events


def test_the_portfolio_takes_turns() -> None:
    assert [policy_of(Strategy.PORTFOLIO, number).strategy for number in range(len(TURNS))] == list(TURNS)


@pytest.mark.parametrize("seed", [0, 7])
def test_an_aimed_run_of_an_application_pauses_one_worker_while_its_job_runs_and_does_nothing_else(seed: int) -> None:
    policy = policy_of(Strategy.AIMED, seed, application=True)
    drawn = draw(policy.drawing, Settings(), MemoryEngine().info.capabilities)
    assert len(drawn.scenario.workers) > 1
    assert drawn.faults != FaultPlan()
    offered = [PAST, DIES]
    strikes = {
        label: policy.choices.gate(label, lambda: offered)
        for label in ("w2 update mail", "w1 running a", "w2 running z")
    }
    assert strikes == {"w2 update mail": None, "w1 running a": None, "w2 running z": PAST}


DIES = read_option("crash")
BRIEFLY = read_option("pause a poll")
PLACES = tuple((GatePlace("w", step, ""), DIES) for step in ("update mail", "POST mail.example.com", "running"))


def test_the_places_of_a_system_are_its_work_before_its_polls_whichever_instance_came_there() -> None:
    dies = (DIES,)
    down = read_option("host down for a timeout")
    gates = [
        *((f"w{number} select mail", 1, dies) for number in (1, 2, 1)),
        ("w2 running a", 1, dies),
        ("api insert mail", 1, (*dies, down, read_option("host down for 3s"))),
        *((f"{who} commit", 1, (*dies, PAST, BRIEFLY)) for who in ("api", "w1")),
        ("time", 1, ()),
    ]
    assert places_to_strike(gates, job="a") == (
        (GatePlace("api", "insert", "mail"), down),
        (GatePlace("api", "commit", ""), BRIEFLY),
        (GatePlace("w", "running", ""), DIES),
        (GatePlace("api", "insert", "mail"), DIES),
        (GatePlace("api", "commit", ""), DIES),
        (GatePlace("w", "commit", ""), DIES),
        (GatePlace("w", "select", "mail"), DIES),
    )


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_in_aimed_runs_of_a_system_one_process_dies_at_each_place_in_turn(seed: int) -> None:
    policies = [
        policy_of(Strategy.PORTFOLIO, run_seed(seed, n), application=True, places=PLACES) for n in range(11 * 3)
    ]
    assert Counter(policy.strategy for policy in policies) == {"uniform": 9, "pos": 6, "swarm": 6, "aimed": 12}
    offered = [PAST, DIES]
    strikes = [
        label
        for policy in policies
        for label in ("api update mail", "w2 update mail", "w1 POST mail.example.com a", "w1 running z")
        if policy.strategy is Strategy.AIMED and policy.choices.gate(label, lambda: offered) == offered[1]
    ]
    assert strikes == ["w2 update mail", "w1 POST mail.example.com a", "w1 running z"] * 3


@pytest.mark.parametrize("seed", range(4))
def test_what_is_examined_and_what_is_done_twice_is_of_every_strategy_alike(seed: int) -> None:
    turns = Counter(TURNS)
    for numbers in ([n for n in range(800) if is_observed(n)], range(0, 200 * REPEATED_EVERY, REPEATED_EVERY)):
        met = Counter(TURNS[run_seed(seed, number) % len(TURNS)] for number in numbers)
        assert abs(met.total() - 200) < 4
        assert all(abs(met[strategy] - 200 * turns[strategy] / len(TURNS)) < 8 for strategy in turns)


def test_partial_order_sampling_orders_actors_at_most_gates_where_two_are_ready() -> None:
    def orders(strategy: Strategy) -> int:
        runs = [Sampler(MemoryEngine(), strategy=strategy).sample(seed) for seed in SEEDS]
        return sum(read_option(item.option).kind == FIRST for run in runs for item in run.tape)

    assert orders(Strategy.POS) > 3 * orders(Strategy.UNIFORM)


def test_a_swarm_draws_one_part_of_the_options_for_all_jobs_of_a_run() -> None:
    endings = tuple(ENDINGS)
    drawn = [SwarmDrawing(seed) for seed in range(20)]
    parts = [{one.pick(f"ending of {name}", endings) for name in "abcdefghij"} for one in drawn]
    assert all(part <= set(one.kept["ending"]) for part, one in zip(parts, drawn, strict=True))
    assert min(len(one.kept["ending"]) for one in drawn) < len(endings) // 2


def test_every_choice_that_a_fault_offers_belongs_to_a_family() -> None:
    plan = FaultPlan.each(1)
    built = interferences(
        plan, settings=Settings(), clocks=Clocks(), note=lambda *_: None, stop=lambda _: True, restart_after=None
    )
    session = Sampler(MemoryEngine(), strategy=Strategy.UNIFORM).session(1)
    session.begin()
    options = set()
    for _ in range(60):
        actors = [None, *session.kernel.actors.values()]
        options |= {option for fault in built for actor in actors for option in fault.options(session.kernel, actor)}
        session.kernel.step()
    session.close()
    assert {family_of(option) for option in options} == set(families()) - {"order"}
    assert all(read_option(option.words) == option for option in options), "a tape keeps the words alone"


def test_a_schedulers_clock_steps_by_whole_periods_and_no_other_clock_does() -> None:
    settings = Settings()
    session = Sampler(MemoryEngine(), strategy=Strategy.UNIFORM).session(1)
    session.begin()
    (fault,) = interferences(
        FaultPlan(clock_offset=1),
        settings=settings,
        clocks=(clocks := Clocks()),
        note=lambda *_: None,
        stop=lambda _: True,
        restart_after=None,
        schedulers=frozenset({"w1"}),
    )
    w1, queue = session.kernel.actors["w1"], session.kernel.actors["queue"]
    within = {f"own clock {way} {size}" for way in ("ahead", "behind") for size in ("2.5s", "5s")}
    beyond = {f"own clock {way} {size}" for way in ("ahead", "behind") for size in ("1m", "2m")}
    assert set(map(str, fault.options(session.kernel, queue))) == within
    assert set(map(str, fault.options(session.kernel, w1))) == within | beyond
    fault.apply(session.kernel, w1, read_option("own clock behind 1m"))
    session.close()
    assert clocks.of("w1") == -settings.cron_period


def test_a_swarm_says_what_it_drew() -> None:
    told = [policy_of(Strategy.SWARM, seed).about for seed in range(30)]
    assert all(text.startswith("swarm: deviates at ") for text in told)
    assert any("slow w1" in text for text in told)
    assert any("never " in text for text in told)


def test_under_long_settings_no_late_wake_up_passes_over_thousands_of_slots() -> None:
    capabilities = MemoryEngine().info.capabilities
    drawn = [draw(Uniform(seed), Settings(stuck_timeout=10 * DAY), capabilities).scenario for seed in range(100)]
    long = [scenario for scenario in drawn if scenario.settings.stuck_timeout == 10 * DAY]
    planned = {(plan.every, plan.cron) for scenario in long for plan in scenario.jobs if plan.scheduled}
    assert {every for every, cron in planned if cron is None} == {DAY}
    assert "@daily" in (crons := {cron for _, cron in planned})
    assert "*/2 * * * *" not in crons


def test_values_at_the_edges_of_their_kinds_are_drawn() -> None:
    """A run has one shared key, whichever that is: only two that are equal collide."""
    capabilities, keys, big, payloads = MemoryEngine().info.capabilities, set(), 0, set()
    for seed in range(600):
        jobs = draw(Uniform(seed), Settings(), capabilities).scenario.jobs
        shared = {job.unique_key for job in jobs} & set(EDGE_KEYS.values())
        keys |= {tuple(shared)}
        big += any(job.priority == BIG for job in jobs)
        payloads |= {job.payload for job in jobs}
    assert {(), *((key,) for key in EDGE_KEYS.values())} <= keys
    assert big > 20
    assert payloads == {None, *Payload}


def test_each_key_is_sent_again_once_its_job_has_ended_and_once_more_at_last() -> None:
    """A key that leaks shows only then."""
    capabilities, keyed = MemoryEngine().info.capabilities, 0
    for seed in range(150):
        jobs = draw(Uniform(seed), Settings(), capabilities).scenario.jobs
        keys = {
            (job.tool, job.unique_key) for job in jobs if job.unique_key is not None and job.transaction != "rollback"
        }
        again = {(job.tool, job.unique_key) for job in jobs if job.name.endswith("-again") and job.after}
        last = {(job.tool, job.unique_key) for job in jobs if job.name.endswith("-at-last")}
        assert keys == again == last
        assert all(job.at > 0 for job in jobs if job.name.endswith("-at-last"))
        keyed += bool(keys)
    assert keyed > 20


def test_operators_come_back_to_a_job_that_has_a_key_and_its_key_is_sent_after_that() -> None:
    """A key that leaks in a second life shows only then."""
    capabilities, lives = MemoryEngine().info.capabilities, set()
    for seed in range(300):
        jobs = {job.name: job for job in draw(Uniform(seed), Settings(), capabilities).scenario.jobs}
        for back in [job for name, job in jobs.items() if name.endswith("-back")]:
            first, last = jobs[str(back.after)], jobs[f"{back.after}-in-the-end"]
            assert (back.tool, back.unique_key) == (last.tool, last.unique_key) == (first.tool, first.unique_key)
            assert first.at + sum(act.after for act in first.operated()) < back.at < last.at
            lives.add(tuple(act.verb for act in first.then))
        assert all(job.unique_key is not None for job in jobs.values() if job.then)
    assert lives == {(), ("retry",), ("retry", "cancel"), ("cancel", "retry"), ("send",)}
