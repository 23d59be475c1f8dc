"""A node that asks a person in a loop runs from its beginning with each answer, and with it what it did before."""

import sqlite3
from typing import TypedDict

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from job_harness import JobResult, at_most_once, effect


class Draft(TypedDict, total=False):
    draft: int
    approved: bool


def ask_in_a_loop(state):
    draft = 1
    while True:
        effect("drafted", draft=draft)  # what a model is paid for, or a mail that goes out
        if interrupt(draft) == "approve":
            return {"draft": draft, "approved": True}
        draft += 1


def write(state):
    drafted = state.get("draft", 0) + 1
    if drafted not in DRAFTED:  # it is kept by its number
        DRAFTED.add(drafted)
        effect("drafted", draft=drafted)
    return {"draft": drafted}


def ask(state):
    return {"approved": interrupt(state["draft"]) == "approve"}


DRAFTED = set()


def graph_of(right):
    graph = StateGraph(Draft)
    if not right:
        return graph.add_node("ask", ask_in_a_loop).add_edge(START, "ask")
    graph.add_node(write).add_node(ask).add_edge(START, "write").add_edge("write", "ask")
    return graph.add_conditional_edges("ask", lambda state: END if state["approved"] else "write")


@pytest.fixture
def job_invariants():
    return [at_most_once("drafted", per=["draft"])]


@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
def test_each_draft_is_made_once(job_harness, tmp_path, right):
    DRAFTED.clear()
    process = {}

    def start():
        connection = sqlite3.connect(tmp_path / "agent.sqlite", check_same_thread=False)
        process["agent"] = graph_of(right).compile(checkpointer=SqliteSaver(connection))

    def work(job):
        agent, config = process["agent"], {"configurable": {"thread_id": "t"}}
        known = agent.get_state(config)
        if not known.created_at:
            agent.invoke({}, config)
        elif known.interrupts and job.input == known.interrupts[0].value:  # an answer belongs to what was shown
            agent.invoke(Command(resume="approve" if job.input == 2 else "again"), config)
        elif known.next and not known.interrupts:
            agent.invoke(None, config)
        return JobResult(success=True)

    job_harness.on_start(start)
    job_harness.register("agent", work)
    for answered in (0, 1, 2):
        job_harness.enqueue("agent", answered)
        job_harness.run_until_idle()
