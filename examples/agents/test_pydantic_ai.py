import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import FunctionModel

from job_harness import JobResult, at_most_once, choose, effect


async def model(messages, info):  # stands in for the model: a search tries each of its answers
    called = sum(isinstance(part, ToolReturnPart) for message in messages for part in message.parts)
    options = ("ends", "repeats its call") if called else ("calls charge", "calls charge twice at once", "refuses")
    says = "ends" if called > 1 else choose("the model", *options)
    calls = {"calls charge": 1, "calls charge twice at once": 2, "repeats its call": 1}.get(says, 0)
    charge = [ToolCallPart("charge", {"order": "o1"}) for _ in range(calls)]  # each with an id of its own
    return ModelResponse(parts=charge or [TextPart(says)])


def agent_of(charged):
    async def charge(order: str) -> str:  # the bank behind it ignores a key that it knows, if it remembers keys
        if charged is None or order not in charged:
            charged is None or charged.add(order)
            effect("charged", order=order)
        return "charged"

    return Agent(FunctionModel(model), tools=[charge])


@pytest.fixture
def job_invariants():
    return [at_most_once("charged", per=["order"])]


@pytest.mark.parametrize("remembers", [True, False], ids=["right", "wrong"])
def test_an_order_is_charged_once_whatever_the_model_says(job_harness, remembers):
    charged = set() if remembers else None

    async def work(job):
        answer = await agent_of(charged).run(f"charge {job.input}")
        return JobResult(success=True, output=answer.output)

    job_harness.register("agent", work)
    job_harness.enqueue("agent", "o1")
    job_harness.run_until_idle()
