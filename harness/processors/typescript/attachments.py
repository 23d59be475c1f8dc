"""The Node children of one harness: one for each TypeScript processor and tool, closed together."""

from __future__ import annotations

from datetime import datetime

from harness.adapters.reference.application import JobProcessor
from harness.processors.typescript.attached import NodeProcessor
from harness.processors.typescript.channel import BLOCKED_AFTER_SECONDS
from harness.processors.typescript.errors import ProcessorNotLoaded
from harness.processors.typescript.target import TypeScriptProcessor
from harness.sim.loop import VirtualLoop


class Attachments:
    """Turns what names a TypeScript processor into what runs it; leaves every other processor as it is."""

    def __init__(self, loop: VirtualLoop, *, start: datetime, timeout_seconds: float, seed: int) -> None:
        self._loop = loop
        self._start = start
        self._timeout_seconds = timeout_seconds
        self._seed = seed
        self._blocked_after = BLOCKED_AFTER_SECONDS
        self._attached: list[tuple[TypeScriptProcessor, str | None, NodeProcessor]] = []

    def attach(self, processor: JobProcessor, *, slug: str | None = None, strictly: bool = False) -> JobProcessor:
        """Answer what the worker calls. A registration `strictly` has to be that of `slug`.

        Raises ProcessorNotLoaded, UsageError, EnvironmentUnavailable.
        """
        if not isinstance(processor, TypeScriptProcessor):
            return processor
        for about, used_for, attached in self._attached:
            if used_for == slug and about == processor:
                return attached
        attached = NodeProcessor(
            processor,
            loop=self._loop,
            start=self._start,
            timeout_seconds=self._timeout_seconds,
            slug=slug,
            seed=self._seed,
            blocked_after=self._blocked_after,
        )
        if strictly and attached.serves_another is not None:
            attached.close()
            raise ProcessorNotLoaded(
                f"the processor {processor.target!r}: {attached.serves_another}",
                hint="Register it for the tool that it serves.",
            )
        self._attached.append((processor, slug, attached))
        return attached

    @property
    def findings(self) -> list[str]:
        """What was noticed in the children, in the order of their processors."""
        return [finding for _, _, attached in self._attached for finding in attached.findings]

    def leaks(self) -> list[str]:
        """Name what attempts that are over left running in the children."""
        return [leak for _, _, attached in self._attached for leak in attached.leaks()]

    @property
    def pids(self) -> list[int]:
        """The numbers of the Node processes that are alive."""
        return [attached.pid for _, _, attached in self._attached if attached.pid is not None]

    def crash(self) -> None:
        """Kill all children with SIGKILL, as the worker's process dies."""
        for _, _, attached in self._attached:
            attached.crash()

    def close(self) -> None:
        """End all children. Harmless when repeated."""
        for _, _, attached in self._attached:
            attached.close()
        self._attached.clear()
