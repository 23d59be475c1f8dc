"""langchain-ai/agents-from-scratch: src/email_assistant/email_assistant_hitl.py"""

import os
import sqlite3
import sys

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command

from job_harness import JobResult, at_most_once, effect

sys.path.insert(0, os.path.join(os.environ["REPOSITORY"], "src"))
from email_assistant import email_assistant_hitl as app

MEETING = {
    "attendees": ["a"],
    "subject": "s",
    "duration_minutes": 30,
    "preferred_day": "2026-12-01",
    "start_time": 9,
}


class Model:  # calls two tools at once, then says that it is done
    def invoke(self, messages):
        done = any(isinstance(each, dict) and each.get("role") == "tool" for each in messages)
        if done or any(getattr(each, "tool_call_id", None) for each in messages):
            return AIMessage("", tool_calls=[{"name": "Done", "args": {"done": True}, "id": "9"}])
        mail = {"to": "a", "subject": "s", "content": "c"}
        calls = [
            {"name": "schedule_meeting", "args": MEETING, "id": "1"},
            {"name": "write_email", "args": mail, "id": "2"},
        ]
        return AIMessage("", tool_calls=calls)


class Router:
    def invoke(self, messages):
        return app.RouterSchema(reasoning="", classification="respond")


class Tool:
    def __init__(self, name):
        self.name = name

    def invoke(self, arguments):
        effect(self.name, subject=arguments["subject"])
        return "ok"


@pytest.fixture
def job_invariants():
    return [at_most_once("schedule_meeting", per=["subject"]), at_most_once("write_email", per=["subject"])]


def test_each_tool_acts_once(job_harness, tmp_path, monkeypatch):
    monkeypatch.setattr(app, "llm_with_tools", Model())
    monkeypatch.setattr(app, "llm_router", Router())
    monkeypatch.setattr(app, "tools_by_name", {name: Tool(name) for name in ("write_email", "schedule_meeting")})
    process = {}

    def start():
        connection = sqlite3.connect(tmp_path / "agent.sqlite", check_same_thread=False)
        process["agent"] = app.overall_workflow.compile(checkpointer=SqliteSaver(connection))

    def work(job):
        agent, config = process["agent"], {"configurable": {"thread_id": "t"}}
        known = agent.get_state(config)
        if not known.created_at:
            mail = {"author": "x", "to": "y", "subject": "s", "email_thread": "z"}
            agent.invoke({"email_input": mail}, config)
        elif known.interrupts and "answer" in job.input and job.attempts == 1:
            agent.invoke(Command(resume=[{"type": job.input["answer"]}]), config)
        elif known.next and not known.interrupts:
            agent.invoke(None, config)
        return JobResult(success=True)

    job_harness.on_start(start)
    job_harness.register("mail", work)
    for given in ({}, {"answer": "accept"}, {"answer": "accept"}):  # a person accepts both calls
        job_harness.enqueue("mail", given)
        job_harness.run_until_idle()
