"""langchain-ai/executive-ai-assistant: eaia/main/graph.py"""

import os
import sqlite3
import sys
import types

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.sqlite import SqliteSaver

from job_harness import JobResult, at_most_once, effect


def module(name, **members):
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(members)


module(  # Gmail
    "eaia.gmail",
    send_email=lambda email_id, content, address, addn_receipients=None: effect("send_email", email=email_id),
    mark_as_read=lambda email_id, address: effect("mark_as_read", email=email_id),
    send_calendar_invite=lambda emails, title, *rest: effect("send_calendar_invite", title=title),
    get_events_for_days=lambda days: "",
)
module("langchain.agents.react")  # of an older langchain, for finding times, which this test does not do
module("langchain.agents.react.agent", create_react_agent=None)
sys.path.insert(0, os.environ["REPOSITORY"])
from eaia.main import graph as app  # noqa: E402 - the path comes first


@pytest.fixture
def job_invariants():
    return [at_most_once("send_email", per=["email"]), at_most_once("send_calendar_invite", per=["title"])]


@pytest.mark.job_accepts("'mark_as_read' was repeated")
def test_a_reply_is_sent_once(job_harness, tmp_path):
    process = {}

    def start():
        connection = sqlite3.connect(tmp_path / "agent.sqlite", check_same_thread=False)
        process["agent"] = app.graph_builder.compile(checkpointer=SqliteSaver(connection))

    def work(job):
        agent, config = process["agent"], {"configurable": {"thread_id": "t", "email": "me"}}
        if not agent.get_state(config).created_at:  # the human has accepted the draft
            answer = {"content": "hi", "new_recipients": []}
            draft = AIMessage("", tool_calls=[{"name": "ResponseEmailDraft", "args": answer, "id": "1"}])
            agent.update_state(config, {"email": {"id": "m1"}, "messages": [draft]}, as_node="human_node")
        if agent.get_state(config).next:
            agent.invoke(None, config)
        return JobResult(success=True)

    job_harness.on_start(start)
    job_harness.register("mail", work)
    job_harness.enqueue("mail", {})
    job_harness.run_until_idle()
