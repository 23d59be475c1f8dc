import sqlite3
from typing import TypedDict

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from job_harness import JobResult, at_most_once, effect


class Bank:  # stands in for the payment service; one that knows keys ignores a repetition
    def __init__(self, knows_keys):
        self.knows_keys, self.keys = knows_keys, set()

    def charge(self, order, key):
        if not (self.knows_keys and key in self.keys):
            self.keys.add(key)
            effect("charged", order=order)


class Order(TypedDict, total=False):
    order: str
    approved: bool


def agent_of(bank, checkpointer):
    def ask(state):
        return {"approved": interrupt(f"charge {state['order']}?")}

    def charge(state):
        if state["approved"]:
            bank.charge(state["order"], key=f"charge-{state['order']}")

    graph = StateGraph(Order).add_node(ask).add_node(charge)
    graph.add_edge(START, "ask").add_edge("ask", "charge").add_edge("charge", END)
    return graph.compile(checkpointer=checkpointer)


@pytest.fixture
def job_invariants():
    return [at_most_once("charged", per=["order"])]


@pytest.mark.parametrize("knows_keys", [True, False], ids=["right", "wrong"])
def test_an_approved_order_is_charged_once(job_harness, tmp_path, knows_keys):
    bank, process = Bank(knows_keys), {}

    def start():  # what your process does when it starts, after each crash again
        connection = sqlite3.connect(tmp_path / "agent.sqlite", check_same_thread=False)
        process["agent"] = agent_of(bank, SqliteSaver(connection))

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

    job_harness.on_start(start)
    job_harness.register("agent", work)
    job_harness.enqueue("agent", {"order": "o1"})
    job_harness.run_until_idle()
    job_harness.enqueue("agent", {"order": "o1", "answer": True})
    job_harness.run_until_idle()
