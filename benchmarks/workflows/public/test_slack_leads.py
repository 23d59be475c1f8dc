"""pydantic/pydantic-ai: examples/pydantic_ai_examples/slack_lead_qualifier"""

import json
import os
import re
import sys
import types

import pytest
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel

from job_harness import JobResult, at_most_once, effect, step

STORED = {}


class Dict:  # stands for Modal's, which its program keeps leads in
    def __init__(self):
        async def put(key, value):
            STORED[key] = value

        async def clear():
            STORED.clear()

        async def values():
            for value in list(STORED.values()):
                yield value

        self.put, self.clear, self.values = (types.SimpleNamespace(aio=each) for each in (put, clear, values))

    @classmethod
    def from_name(cls, name, create_if_missing):
        return cls()


sys.modules["modal"] = modal = types.ModuleType("modal")
modal.Dict = Dict
sys.path.insert(0, os.path.join(os.environ["REPOSITORY"], "examples"))
from pydantic_ai_examples.slack_lead_qualifier import agent as agents  # noqa: E402 - the path comes first
from pydantic_ai_examples.slack_lead_qualifier import functions as app  # noqa: E402
from pydantic_ai_examples.slack_lead_qualifier.models import Profile  # noqa: E402


async def model(messages, info):
    email = re.search(r"<email>(.*?)</email>", str(messages)).group(1)
    organization = {"organization_name": "o", "organization_domain": "d"}
    data = {"profile": {"email": email}, **organization, "job_title": "t", "relevance": 3, "summary": "s"}
    return ModelResponse(parts=[TextPart(json.dumps({"result": {"kind": "Analysis", "data": data}}))])


async def send(channel, blocks):  # stands for Slack
    who = sorted({str(each).split("mailto:")[1].split(")")[0] for each in blocks if "mailto:" in str(each)})
    await step("slack")
    effect(f"posted {channel}", who=who)


@pytest.fixture
def job_invariants():
    return [at_most_once("posted #new-slack-leads", per=["who"])]


@pytest.mark.job_accepts("outlives")
def test_a_lead_is_posted_once(job_harness, monkeypatch):
    STORED.clear()
    monkeypatch.setattr(app, "send_slack_message", send)

    async def member(job):
        with agents.agent.override(model=FunctionModel(model)):
            await app.process_slack_member(Profile(email=job.input))
        return JobResult(success=True)

    job_harness.register("member", member)
    job_harness.enqueue("member", "a@x")
    job_harness.run_until_idle()
