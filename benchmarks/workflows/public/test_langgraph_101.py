"""langchain-ai/langgraph-101: agents/email_agent/graph.py"""

import os
import sqlite3
import sys
import types

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.sqlite import SqliteSaver

from job_harness import JobResult, at_most_once, effect

MEETING = {
    "attendees": ["a"],
    "subject": "s",
    "duration_minutes": 30,
    "preferred_day": "2026-12-01T00:00:00",
    "start_time": 9,
}
CALLS = [
    ("schedule_meeting", MEETING),
    ("write_email", {"to": "a", "subject": "s", "content": "c"}),
    ("Done", {"done": True}),
]


class Router:
    def __init__(self, schema):
        self.schema = schema

    def invoke(self, messages):
        return self.schema(reasoning="", classification="respond")


class Model:
    def bind_tools(self, tools, **options):
        return self

    def with_structured_output(self, schema):
        return Router(schema)

    def invoke(self, messages):
        done = sum(getattr(each, "type", None) == "tool" for each in messages)
        name, arguments = CALLS[done]
        return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": str(done)}])


class Tool:
    def __init__(self, name):
        self.name = name

    def invoke(self, arguments):
        effect(self.name, subject=arguments["subject"])
        return "ok"


sys.modules["utils"], models = types.ModuleType("utils"), types.ModuleType("utils.models")
sys.modules["utils.models"], models.model = models, Model()
sys.path.insert(0, os.path.join(os.environ["REPOSITORY"], "agents/email_agent"))
import graph as app  # noqa: E402 - the path comes first


@pytest.fixture
def job_invariants():
    return [at_most_once("schedule_meeting", per=["subject"]), at_most_once("write_email", per=["subject"])]


def test_each_tool_acts_once(job_harness, tmp_path, monkeypatch):
    monkeypatch.setattr(app, "tools_by_name", {name: Tool(name) for name in ("write_email", "schedule_meeting")})
    process = {}

    def start():
        connection = sqlite3.connect(tmp_path / "agent.sqlite", check_same_thread=False)
        process["agent"] = app.agent_builder.compile(checkpointer=SqliteSaver(connection))

    def work(job):
        agent, config = process["agent"], {"configurable": {"thread_id": "t"}}
        known = agent.get_state(config)
        agent.invoke(None if known.created_at else {"messages": [{"role": "user", "content": "x"}]}, config)
        return JobResult(success=True)

    job_harness.on_start(start)
    job_harness.register("mail", work)
    job_harness.enqueue("mail", {})
    job_harness.run_until_idle()
