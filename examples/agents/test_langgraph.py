import sqlite3

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph

from job_harness import JobResult, SideEffect, at_most_once, effect


def agent_of(checkpointer, charged):
    def charge(state):  # a tool: the bank behind it ignores a key that it knows, if it is one that remembers keys
        if charged is None or state["order"] not in charged:
            charged is None or charged.add(state["order"])
            effect("charged", order=state["order"])

    def mail(state):  # its receiver ignores a second one
        effect(SideEffect("mailed", state["order"], idempotent=True))

    return StateGraph(dict).add_sequence([charge, mail]).add_edge(START, "charge").compile(checkpointer)


@pytest.fixture
def job_invariants():
    return [at_most_once("charged", per=["order"])]


@pytest.mark.parametrize("remembers", [True, False], ids=["right", "wrong"])
def test_an_order_is_charged_once(job_harness, tmp_path, remembers):
    agents, charged = [], set() if remembers else None

    def start():  # what your process does when it starts, after each crash again
        connection = sqlite3.connect(tmp_path / "agent.sqlite", check_same_thread=False)
        agents.append(agent_of(SqliteSaver(connection), charged))

    def work(job):
        config = {"configurable": {"thread_id": job.id}}  # the same thread in each attempt
        agents[-1].invoke(None if agents[-1].get_state(config).created_at else {"order": job.input}, config)
        return JobResult(success=True)

    job_harness.on_start(start)
    job_harness.register("agent", work)
    job_harness.enqueue("agent", "o1")
    job_harness.run_until_idle()
