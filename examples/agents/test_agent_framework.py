import pytest
from agent_framework import Executor, FileCheckpointStorage, WorkflowBuilder, WorkflowContext, handler

from job_harness import JobResult, at_most_once, effect


class Plan(Executor):
    @handler
    async def plan(self, order: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(order)


class Act(Executor):
    def __init__(self, sent):  # what each receiver has got, where it ignores a second one; None: it does not
        super().__init__(id="act")
        self._sent = sent

    @handler
    async def act(self, order: str, ctx: WorkflowContext[str, str]) -> None:
        for tool in ("send_email", "update_database", "notify_slack"):
            if self._sent is None or (tool, order) not in self._sent:
                self._sent is None or self._sent.add((tool, order))
                effect(tool, order=order)
        await ctx.yield_output("done")


def flow_of(folder, sent):
    plan, act = Plan(id="plan"), Act(sent)
    storage = FileCheckpointStorage(folder)  # a checkpoint after each superstep, and none within the three calls of act
    flow = WorkflowBuilder(name="orders", start_executor=plan, checkpoint_storage=storage, output_executors=[act])
    return flow.add_edge(plan, act).build()


@pytest.fixture
def job_invariants():
    return [at_most_once("send_email", per=["order"])]


@pytest.mark.parametrize("remember", [True, False], ids=["right", "wrong"])
def test_a_tool_acts_once(job_harness, tmp_path, remember):
    sent = set() if remember else None

    async def work(job):
        flow, storage = flow_of(str(tmp_path), sent), FileCheckpointStorage(str(tmp_path))
        saved = await storage.list_checkpoints(workflow_name="orders")
        last = max(saved, key=lambda each: each.iteration_count) if saved else None
        await (flow.run(checkpoint_id=last.checkpoint_id) if last else flow.run(job.input))
        return JobResult(success=True)

    job_harness.register("agent", work)
    job_harness.enqueue("agent", "o1")
    job_harness.run_until_idle()
