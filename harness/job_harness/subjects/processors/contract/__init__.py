"""`ProcessorContract`: what every processor must keep, tried on one that a user names; and its report.

Chooses the runner and the order of the checks. What a check asks is in `checks`, how a trial is
carried out in the runners.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from job_harness.core.model import SECOND
from job_harness.core.run.verdict import Verdict
from job_harness.errors import HarnessError, ProgramMissing, UsageError, did_you_mean
from job_harness.subjects.processors.clocks import VIRTUAL, checked_clocks
from job_harness.subjects.processors.contract.checks import ANSWERS, DELIVERIES, NOTHING_BETWEEN, NOTHING_SEEN
from job_harness.subjects.processors.contract.forked_runner import CAN_FORK, MEMORY_BYTES, ForkedRunner
from job_harness.subjects.processors.contract.inputs import examples_of
from job_harness.subjects.processors.contract.loop_runner import LoopRunner
from job_harness.subjects.processors.contract.trial import Abilities, Check, CheckOutcome, ContractFinding, Probe
from job_harness.subjects.processors.judgement import judged_nothing
from job_harness.subjects.processors.length import Length, read_length
from job_harness.subjects.processors.processor import find_processor, is_async
from job_harness.subjects.processors.typescript.target import TypeScriptProcessor

__all__ = ["CHECKS", "CheckOutcome", "ContractReport", "ContractRun", "ProcessorContract", "check_processor"]

CHECKS: tuple[Check, ...] = (*ANSWERS, *DELIVERIES)
NODE_POSITIONS = 6
"""Moments at which one check disturbs a TypeScript processor: each needs a Node process of its own."""
NODE_SECONDS = 20.0


class ContractRun:
    """The contract of one processor; each check is judged when it is asked for, and once."""

    def __init__(
        self,
        processor: Any,
        *,
        input: Any = None,
        examples: Sequence[Any] = (),
        waive: Mapping[str, str] | None = None,
        repeatable_effects: Sequence[str] = (),
        idempotent: Sequence[str] = (),
        pure: bool = False,
        job_timeout: Length = "10m",
        cancel_grace: Length = "5s",
        output_limit: int = 16 * 2**20,
        real_seconds: float = 5.0,
        isolated: bool = True,
        reset: Callable[[], object] | None = None,
        clocks: str = VIRTUAL,
    ) -> None:
        """Name a processor and its input. Raises UsageError for what makes no sense.

        `waive` maps a check to the reason why it does not hold. `output_limit` is bytes of JSON; `real_seconds` is what
        one try may take of real time; `isolated=False` tries in this process, where a debugger reaches it. `reset` is
        called before each try and sets back what that cannot do itself, such as rows of a database. With
        `clocks="real"` the processor reads the machine's clocks.
        """
        found = find_processor(processor)
        node = isinstance(found, TypeScriptProcessor)
        self.name = _called(found)
        self._waived = _checked(waive or {})
        self.checks = tuple(check.in_typescript() for check in CHECKS) if node else CHECKS
        """The clauses, with repairs in the processor's language."""
        timeout = read_length(job_timeout) / SECOND
        make = partial(
            LoopRunner,
            found,
            slug="contract",
            timeout_seconds=timeout,
            grace_seconds=read_length(cancel_grace) / SECOND,
            output_limit=output_limit,
            blocked_after=real_seconds / 2,
            busy_seconds=math.inf if isolated and CAN_FORK else real_seconds,  # A child that hangs is killed.
            clocks=checked_clocks(clocks),
        )
        self._probe = Probe(
            _runner(found, make, real_seconds=real_seconds, isolated=isolated, reset=reset),
            examples_of(input, examples),
            timeout_seconds=timeout,
            repeatable=frozenset(repeatable_effects),
            idempotent=idempotent,
            pure=pure,
        )
        self._findings: dict[str, ContractFinding] = {}

    def judge(self, id: str) -> ContractFinding:
        """Return what one check comes to. Raises UsageError for one that does not exist."""
        check = _find(id)
        if id not in self._findings:
            self._findings[id] = self._judge(check)
        return self._findings[id]

    def report(self) -> ContractReport:
        """Judge everything."""
        findings = tuple((check, self.judge(check.id)) for check in self.checks)
        notes = dict.fromkeys(note for tried in self._probe.plain for note in tried.world.notes)
        return ContractReport(self.name, findings, tuple(notes))

    def _judge(self, check: Check) -> ContractFinding:
        if check.id in self._waived:
            return ContractFinding(CheckOutcome.WAIVED, (self._waived[check.id],))
        if check.needs_success and self._probe.good is None:
            return ContractFinding(
                CheckOutcome.INCONCLUSIVE, ("no declared input succeeds: see declared_input_succeeds",)
            )
        return check.judge(self._probe)


def check_processor(processor: Any, **options: Any) -> ContractReport:
    """Check a processor against the whole contract; the options are those of `ContractRun`."""
    return ContractRun(processor, **options).report()


class ProcessorContract:
    """Subclass it in a test module, under a name that pytest collects: one test for each check.

    Set `processor` (a callable, "module:name", "path.ts#name" or a TypeScriptProcessor) and `input`
    or `examples`.
    """

    processor: ClassVar[Any] = None
    input: ClassVar[Any] = None
    """A pydantic model, a JSON schema, or a Hypothesis strategy."""
    examples: ClassVar[Sequence[Any]] = ()
    """Inputs; on at least one of them the processor must succeed."""
    waive: ClassVar[Mapping[str, str]] = {}
    """Check -> the reason why it does not hold here."""
    repeatable_effects: ClassVar[Sequence[str]] = ()
    """Declared side effects that may happen more than once for a job."""
    idempotent: ClassVar[Sequence[str]] = ()
    """What was seen and may happen again, since its receiver ignores a repetition: `POST https://api.pay.test/*`."""
    pure: ClassVar[bool] = False
    """Whether it does nothing outside: then its answers are compared, and a side effect that is seen fails."""
    job_timeout: ClassVar[Length] = "10m"
    cancel_grace: ClassVar[Length] = "5s"
    real_seconds: ClassVar[float] = 5.0
    isolated: ClassVar[bool] = True
    reset: ClassVar[Any] = None
    """A function without arguments. A type checker would take one of this type for a method, and refuse it.

    Called before each try, in this process: it empties tables and queues. Memory and files are set
    back anyway.
    """
    clocks: ClassVar[str] = VIRTUAL
    """"real": `time.time()`, `datetime.now()` and their kin are the machine's."""

    @classmethod
    def contract(cls) -> ContractRun:
        """Return the contract of this class, made once."""
        made = cls.__dict__.get("_contract")
        if isinstance(made, ContractRun):
            return made
        _refuse_unknown(cls)
        processor = _function(inspect.getattr_static(cls, "processor"))
        if processor is None:
            raise UsageError("the contract names no processor", hint="Set processor = my_processor.")
        contract = ContractRun(
            processor,
            input=inspect.getattr_static(cls, "input"),
            examples=cls.examples,
            waive=cls.waive,
            repeatable_effects=cls.repeatable_effects,
            idempotent=cls.idempotent,
            pure=cls.pure,
            job_timeout=cls.job_timeout,
            cancel_grace=cls.cancel_grace,
            real_seconds=cls.real_seconds,
            isolated=cls.isolated,
            reset=_function(inspect.getattr_static(cls, "reset")),
            clocks=cls.clocks,
        )
        cls._contract = contract  # type: ignore[attr-defined]
        return contract


def _add_test(number: int, check: Check) -> None:
    def test(self: ProcessorContract) -> None:
        import pytest

        first = check.id == CHECKS[0].id
        try:
            contract = self.contract()
            finding = contract.judge(check.id)
        except ProgramMissing as error:
            raise pytest.skip.Exception(str(error)) from None
        except HarnessError as error:
            if first:
                raise pytest.fail.Exception(f"{type(self).__name__}: {error}", pytrace=False) from None
            raise pytest.skip.Exception(f"inconclusive: nothing can be tried: see {CHECKS[0].id}") from None
        text, repair = finding.text, contract.checks[number].repair
        match finding.outcome:
            case CheckOutcome.FAILED:
                pytest.fail(f"{check.sentence}\n{_indented(text)}\n  -> {repair}", pytrace=False)
            case CheckOutcome.INCONCLUSIVE if first:
                pytest.fail(f"INCONCLUSIVE: {text}\n  -> {repair}", pytrace=False)
            case CheckOutcome.INCONCLUSIVE if NOTHING_SEEN in text or NOTHING_BETWEEN in text:
                raise judged_nothing(text)
            case CheckOutcome.INCONCLUSIVE | CheckOutcome.NOT_APPLICABLE | CheckOutcome.WAIVED:
                pytest.skip(f"{finding.outcome}: {text}")
            case CheckOutcome.PASSED:
                print(text)  # `pytest -rP` shows of what a pass is one.

    test.__name__ = f"test_{check.id}"
    test.__qualname__ = f"ProcessorContract.{test.__name__}"
    test.__doc__ = check.sentence
    setattr(ProcessorContract, test.__name__, test)


for _number, _check in enumerate(CHECKS):
    _add_test(_number, _check)


_SETTINGS = tuple(name for name in ProcessorContract.__annotations__)


def _refuse_unknown(contract: type[ProcessorContract]) -> None:
    """Refuse an attribute that is no setting: one that is misspelt would be ignored, and its check pass.

    Tests, fixtures and methods are the class's own, and so is what a mixin brings, unless nearly
    called like a setting.
    """
    for owner in contract.__mro__[: contract.__mro__.index(ProcessorContract)]:
        own = issubclass(owner, ProcessorContract)
        for name, value in vars(owner).items():
            if name.startswith(("_", "test", "pytest")) or name in (*vars(ProcessorContract), *_METHODS):
                continue
            near = did_you_mean(name, _SETTINGS)
            fixture = "fixture" in type(value).__name__.lower() or hasattr(value, "_pytestfixturefunction")
            if fixture or not (near or (own and not callable(value) and not hasattr(value, "__get__"))):
                continue
            raise UsageError(
                f"a contract has no setting {name!r}{near}",
                hint=f"It has {', '.join(_SETTINGS)}; start the names of your own attributes with _, as in "
                f"_{name}, or keep them outside the class.",
            )


_METHODS = ("setup_method", "teardown_method", "setup_class", "teardown_class")


def _function(given: Any) -> Any:
    return given.__func__ if isinstance(given, staticmethod | classmethod) else given


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _find(id: str) -> Check:
    for check in CHECKS:
        if check.id == id:
            return check
    known = [check.id for check in CHECKS]
    raise UsageError(f"the contract has no check {id!r}{did_you_mean(id, known)}", hint=f"It has {', '.join(known)}.")


def _checked(waived: Any) -> dict[str, str]:
    if not isinstance(waived, Mapping):
        names = [waived] if isinstance(waived, str) else list(waived)
        example = ", ".join(f'"{name}": "why"' for name in names) or '"fits_jsonb": "why"'
        raise UsageError(
            f"waive is a {type(waived).__name__}, and each waiver needs its reason",
            hint=f"Write waive = {{{example}}}.",
        )
    for id, reason in waived.items():
        _find(id)
        if not isinstance(reason, str) or not reason.strip():
            raise UsageError(f"the waiver of {id} gives no reason", hint=f'Write waive = {{"{id}": "why"}}.')
        if id == "declared_input_succeeds":
            raise UsageError("declared_input_succeeds cannot be waived: without a success nothing is shown")
    return dict(waived)


def _called(processor: Any) -> str:
    if isinstance(processor, TypeScriptProcessor):
        return processor.target
    return getattr(processor, "__qualname__", str(processor))


def _runner(
    processor: Any,
    make: Callable[[], LoopRunner],
    *,
    real_seconds: float,
    isolated: bool,
    reset: Callable[[], object] | None,
) -> ForkedRunner:
    """Return what tries a processor in a child of its own; Node has more time, and its own limit of memory."""
    node = isinstance(processor, TypeScriptProcessor)
    return ForkedRunner(
        make,
        abilities=_abilities(processor),
        real_seconds=real_seconds + NODE_SECONDS if node else real_seconds,
        memory_bytes=None if node else MEMORY_BYTES,
        isolated=isolated,
        reset=reset,
    )


def _abilities(processor: Any) -> Abilities:
    if isinstance(processor, TypeScriptProcessor):
        return Abilities(
            cancel="a promise cannot be cancelled: after a timeout the processor keeps running",
            most_positions=NODE_POSITIONS,
        )
    if not is_async(processor):
        return Abilities(cancel="a plain function cannot be cancelled: after a timeout its thread keeps running")
    return Abilities()


_SIGNS = {
    CheckOutcome.PASSED: "ok",
    CheckOutcome.FAILED: "FAIL",
    CheckOutcome.WAIVED: "waived",
    CheckOutcome.NOT_APPLICABLE: "n/a",
    CheckOutcome.INCONCLUSIVE: "?",
}


@dataclass(frozen=True, slots=True)
class ContractReport:
    """The findings of all checks, in the order of the contract."""

    processor: str
    findings: tuple[tuple[Check, ContractFinding], ...]
    notes: tuple[str, ...] = ()
    """What was not under control."""

    @property
    def verdict(self) -> Verdict:
        """Fail where a check failed; inconclusive where one that was not waived could not be judged."""
        outcomes = {finding.outcome for _, finding in self.findings}
        if CheckOutcome.FAILED in outcomes:
            return Verdict.FAIL
        return Verdict.INCONCLUSIVE if CheckOutcome.INCONCLUSIVE in outcomes else Verdict.PASS

    @property
    def failed(self) -> list[str]:
        """The ids of the checks that failed."""
        return [check.id for check, finding in self.findings if finding.outcome is CheckOutcome.FAILED]

    def finding(self, id: str) -> ContractFinding:
        """Return what one check came to. Raises KeyError."""
        return {check.id: finding for check, finding in self.findings}[id]

    def __str__(self) -> str:
        lines = [f"{self.verdict.upper()}  the contract of {self.processor}"]
        for check, finding in self.findings:
            lines.append(f"  {_SIGNS[finding.outcome]:6} {check.id}: {check.sentence}")
            lines += [f"           {line}" for line in finding.text.splitlines()]
            if finding.outcome is CheckOutcome.FAILED:
                lines.append(f"           -> {check.repair}")
        lines += [f"  not under control: {note}" for note in self.notes]
        return "\n".join(lines)
