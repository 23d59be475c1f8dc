import sqlite3
from typing import TypedDict

import psycopg
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from psycopg.rows import dict_row

from job_harness import JobResult, SideEffect, at_most_once, choose, effect


class Call(TypedDict, total=False):
    order: str
    amount: str
    approved: str


def propose(state):  # the model: what it says of the same question may be another thing each time
    return {"amount": choose("the model", "charge 10", "charge 99")}


def show(state):
    effect(SideEffect("shown", state["amount"], {"call": state["amount"]}, idempotent=True))
    return {"approved": interrupt(state["amount"])}


def propose_and_show(state):  # wrong: a resumed node runs from its beginning, and asks the model again
    proposed = propose(state)
    return {**proposed, **show(proposed)}


def agent_of(bank, checkpointer, right):
    def charge(state):
        approved = state["approved"] == state["amount"] or not right  # an approval says what it approves
        if approved and state["order"] not in bank:  # which ignores a key that it knows
            bank.add(state["order"])
            effect("charged", order=state["order"], call=state["amount"])

    steps = [("propose", propose), ("show", show)] if right else [("show", propose_and_show)]
    return (
        StateGraph(Call).add_sequence([*steps, ("charge", charge)]).add_edge(START, steps[0][0]).compile(checkpointer)
    )


def in_memory(tmp_path, url):
    return InMemorySaver()  # which a crash empties


def on_sqlite(tmp_path, url):
    return SqliteSaver(sqlite3.connect(tmp_path / "agent.sqlite", check_same_thread=False))


def on_postgres(tmp_path, url):
    return PostgresSaver(psycopg.connect(url, autocommit=True, prepare_threshold=0, row_factory=dict_row))


@pytest.fixture(scope="session")
def job_postgres_schema():
    def migrate(url):
        with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
            PostgresSaver(connection).setup()

    return migrate


@pytest.fixture
def job_invariants():
    return [at_most_once("charged", per=["order"])]


@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
@pytest.mark.parametrize("store", [in_memory, on_sqlite, on_postgres], ids=["memory", "sqlite", "postgres"])
def test_what_is_charged_was_shown(job_harness, job_postgres, tmp_path, store, right):
    bank, process, approved = set(), {}, []

    def start():  # what your process does when it starts, after each crash again
        process["agent"] = agent_of(bank, store(tmp_path, job_postgres.url), right)

    def work(job):
        agent, config = process["agent"], {"configurable": {"thread_id": job.input["order"]}}
        known = agent.get_state(config)
        if not known.created_at:
            agent.invoke({"order": job.input["order"]}, config)
        elif known.interrupts and "answer" in job.input:
            agent.invoke(Command(resume=job.input["answer"]), config)
        elif known.next and not known.interrupts:
            agent.invoke(None, config)  # resume what a crash has interrupted
        return JobResult(success=True)

    def was_approved(harness):  # an approval belongs to the call that was shown
        return all(each.data["call"] in approved for each in harness.effects("charged"))

    job_harness.always(was_approved)
    job_harness.on_start(start)
    job_harness.register("agent", work)
    job_harness.enqueue("agent", {"order": "o1"})
    job_harness.run_until_idle()
    approved += [each.data["call"] for each in job_harness.effects("shown")[:1]]
    job_harness.enqueue("agent", {"order": "o1", "answer": approved[0] if approved else ""})
    job_harness.run_until_idle()
