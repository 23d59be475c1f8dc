import sqlite3
import uuid
from typing import Annotated

import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, interrupt

from job_harness import JobResult, at_most_once, effect

CALLS = [
    ("look_up", {"order": "A1"}),
    ("refund", {"order": "A1", "amount": 30}),
    ("mail", {"to": "ann@example.org", "order": "A1"}),
]


class Model(BaseChatModel):  # stands in for the model: one call after the other, each with an id of its own
    _llm_type = "scripted"

    def bind_tools(self, tools, **options):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **options):
        done = sum(isinstance(message, ToolMessage) for message in messages)
        calls = [{"name": name, "args": args, "id": f"call_{uuid.uuid4()}"} for name, args in CALLS[done : done + 1]]
        return ChatResult(generations=[ChatGeneration(message=AIMessage("" if calls else "done", tool_calls=calls))])


class Outside:  # stands in for the bank and the mailer: they ignore a key that they know
    def __init__(self):
        self.keys = set()

    def do(self, name, key, **data):
        if key is None or key not in self.keys:
            self.keys.add(key)
            effect(name, **data)


KEYS = {
    "right": lambda decided, call: decided,
    "wrong": lambda decided, call: None,
    "call": lambda decided, call: call,  # wrong too, but rarely: two workers on one thread each ask the model
}


def agent_of(outside, checkpointer, key):
    @tool
    def look_up(order: str) -> str:
        """Look up an order."""
        return "ann@example.org paid 30"

    @tool
    def refund(order: str, amount: int, tool_call_id: Annotated[str, InjectedToolCallId]) -> str:
        """Refund an order, once a person has approved it."""
        if interrupt({"order": order, "amount": amount}) != "approve":
            return "refused"
        outside.do("refunded", key(f"refund-{order}", tool_call_id), order=order)
        return "refunded"

    @tool
    def mail(to: str, order: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> str:
        """Tell the customer."""
        outside.do("mailed", key(f"mail-{order}", tool_call_id), order=order)
        return "sent"

    tools = [look_up, refund, mail]
    model = Model().bind_tools(tools)
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "model").add_conditional_edges("model", tools_condition).add_edge("tools", "model")
    return graph.compile(checkpointer=checkpointer)


@pytest.fixture
def job_invariants():
    return [at_most_once("refunded", per=["order"]), at_most_once("mailed", per=["order"])]


@pytest.mark.job_accepts("the test itself failed")  # in a run in which a person has not answered yet
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_refund_is_approved_made_and_mailed_once(job_harness, tmp_path, key):
    outside, process = Outside(), {}

    def start():  # what your process does when it starts, after each crash again
        connection = sqlite3.connect(tmp_path / "agent.sqlite", check_same_thread=False)
        process["agent"] = agent_of(outside, SqliteSaver(connection), key)

    def go_on(config, known):  # a job that comes again resumes what a crash has interrupted
        if known.next and not known.interrupts:
            process["agent"].invoke(None, config)

    def message(job):
        agent, config = process["agent"], {"configurable": {"thread_id": job.input}}
        known = agent.get_state(config)
        if not known.created_at:
            agent.invoke({"messages": [("user", "please refund order A1")]}, config)
        go_on(config, known)
        for asked in agent.get_state(config).interrupts:  # a person is shown each, and answers a minute later
            job_harness.enqueue("answer", {"thread": job.input, "to": asked.id}, start_after="1m")
        return JobResult(success=True)

    def answer(job):
        agent, config = process["agent"], {"configurable": {"thread_id": job.input["thread"]}}
        known = agent.get_state(config)
        if any(asked.id == job.input["to"] for asked in known.interrupts):  # it belongs to what was shown
            agent.invoke(Command(resume={job.input["to"]: "approve"}), config)
        go_on(config, known)
        return JobResult(success=True)

    job_harness.on_start(start)
    job_harness.register("message", message)
    job_harness.register("answer", answer)
    job_harness.enqueue("message", "t1")
    job_harness.run_until_idle()
    assert job_harness.effects("mailed")
