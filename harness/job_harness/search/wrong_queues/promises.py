"""Wrong queues in what one job, worker or schedule asks for, in extreme settings, and beyond what is documented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from job_harness.core.history import DONE, Outcome, OutcomeKind, done
from job_harness.core.model import (
    DAY,
    PENDING,
    PROCESSING,
    SECOND,
    TERMINAL,
    Duration,
    Instant,
    JobId,
    JobView,
    QueueState,
    Settings,
)
from job_harness.core.port import Claim, Contract, Documented, JobRequest
from job_harness.core.run.insisting import Steps
from job_harness.core.run.worker import Worker
from job_harness.core.scenario.job_plan import Ending
from job_harness.core.sim import VerbCall
from job_harness.engines.memory import ClaimRules, EndRules, KeyRules, MemoryQueue, RequestRules, TickRules, UpkeepRules
from job_harness.engines.memory.queue import OVERDUE, StandingSchedule
from job_harness.search.wrong_queues.wrong_queue import BlindSpot, Mistake, Theme

# what a job asks for --------------------------------------------------------------------------------------------------


class OwnLeaseIgnored(ClaimRules):
    def lease_of(self, row: JobView) -> Duration:
        return self.settings.lease


class OwnLeaseLostOnHeartbeat(EndRules):
    def extension(self, row: JobView) -> Duration:
        return self.settings.lease


class OwnDelayIgnored(EndRules):
    def retrying(self, row: JobView) -> Settings:
        return self.settings


class OwnTimeoutIgnored(Worker):
    """Its timer is made once, from the settings."""

    def allowed(self, claim: Claim) -> Duration:
        return self.world.settings.job_timeout


class WindowEndsWithJob(KeyRules):
    def window_holder(self, tool: str, key: str, now: Instant) -> JobId | None:
        return None


class WindowNeverEnds(KeyRules):
    def window_holder(self, tool: str, key: str, now: Instant) -> JobId | None:
        return super().window_holder(tool, key, 0)


OWN: Final = Theme.of(
    "what a job asks for itself kept for its whole life",
    Mistake(
        name="own-lease-ignored",
        sentence="A claim lasts as long as the queue's setting says, although its job asked for another lease.",
        source="a column that is written but not read",
        finds=("own_lease_dropped", "taken_back_early", "healthy_claim_taken_back"),
        rules=(OwnLeaseIgnored,),
    ),
    Mistake(
        name="own-lease-lost-on-heartbeat",
        sentence="A heartbeat extends the lease by the queue's setting, although its job asked for another.",
        source="a heartbeat that knows only the setting",
        finds=("own_lease_dropped", "healthy_claim_taken_back"),
        rules=(OwnLeaseLostOnHeartbeat,),
    ),
    Mistake(
        name="own-delay-ignored",
        sentence="A failed job waits as long as the queue's setting says, although it asked for another delay.",
        source="a column that is written but not read",
        finds=("backoff_out_of_range",),
        rules=(OwnDelayIgnored,),
    ),
    Mistake(
        name="own-timeout-ignored",
        sentence="A worker times a job out as the settings say, although the job asked for another timeout.",
        source="a timer that is created once, when the worker starts",
        finds=("healthy_claim_taken_back", "concurrent_execution"),
        worker=OwnTimeoutIgnored,
    ),
    Mistake(
        name="window-ends-with-its-job",
        sentence="A key that should stay unique for some time is free as soon as its job has ended.",
        source="an index over unfinished jobs, asked for a period",
        finds=("unique_key_shared",),
        rules=(WindowEndsWithJob,),
    ),
    Mistake(
        name="window-never-ends",
        sentence="A key that should be unique for some time stays taken as long as the row of its job exists.",
        source="an expiry that is stored but never compared",
        finds=("unique_key_stuck",),
        rules=(WindowNeverEnds,),
    ),
    stands_for=BlindSpot.OWN_TERMS,
)


# what a worker serves, and pauses -------------------------------------------------------------------------------------


class UnservedToolClaimed(ClaimRules):
    def is_served(self, row: JobView, tools: Sequence[str] | None) -> bool:
        return row.tool not in self.queue.paused


class FirstToolOnly(ClaimRules):
    def is_served(self, row: JobView, tools: Sequence[str] | None) -> bool:
        return super().is_served(row, tools if tools is None else tools[:1])


class PauseForgottenByRetries(ClaimRules):
    def is_served(self, row: JobView, tools: Sequence[str] | None) -> bool:
        waits_again = row.queue_state is QueueState.RETRY and (tools is None or row.tool in tools)
        return waits_again or super().is_served(row, tools)


class UnpauseForgotten(MemoryQueue):
    def unpause(self, tool: str) -> Outcome:
        return DONE


class ClaimsOneMore(ClaimRules):
    def allowed(self, due: list[JobView], limit: int) -> list[JobView]:
        return super().allowed(due, limit + 1)


ASKED: Final = Theme.of(
    "a claim that gives what its worker asked for",
    Mistake(
        name="unserved-tool-claimed",
        sentence="A claim gives a worker jobs of tools that it does not serve.",
        source="a filter that the statement lost",
        finds=("unserved_tool",),
        rules=(UnservedToolClaimed,),
    ),
    Mistake(
        name="first-tool-only",
        sentence="A claim looks only at the first tool that its worker serves.",
        source="a parameter that takes the first element of a list",
        finds=("due_job_left", "job_never_run"),
        rules=(FirstToolOnly,),
    ),
    Mistake(
        name="pause-forgotten-by-retries",
        sentence="A paused tool holds back new jobs, but not those that wait for a retry.",
        source="a check where jobs are promoted, not where they are claimed",
        finds=("paused_job_claimed",),
        rules=(PauseForgottenByRetries,),
    ),
    Mistake(
        name="unpause-forgotten",
        sentence="A paused tool stays paused, although resuming it was confirmed.",
        source="a flag cached by each process",
        finds=("due_job_left", "job_never_run"),
        queue=UnpauseForgotten,
    ),
    Mistake(
        name="claims-one-more",
        sentence="A claim returns one job more than its worker asked for.",
        source="an off-by-one of LIMIT",
        finds=("claim_over_limit",),
        rules=(ClaimsOneMore,),
    ),
    stands_for=BlindSpot.TOOLS,
)


# calendars ------------------------------------------------------------------------------------------------------------


class ZoneIgnored(TickRules):
    def calendar(self, planned: StandingSchedule, now: Instant) -> list[Instant]:
        return replace(planned.schedule, zone="UTC").slots(planned.last, now)


class WallClockHours(TickRules):
    """A sixth field makes cronsim go by elapsed time."""

    def calendar(self, planned: StandingSchedule, now: Instant) -> list[Instant]:
        text = planned.schedule.cron
        elapsed = text if len(text.split()) != 5 else f"0 {text}"
        return replace(planned.schedule, cron=elapsed).slots(planned.last, now)


class OffsetFrozen(TickRules):
    """Reads the wall clock with the offset that the zone had in the winter in which the schedule was set."""

    def calendar(self, planned: StandingSchedule, now: Instant) -> list[Instant]:
        zone = {"Europe/Berlin": "Etc/GMT-1", "America/New_York": "Etc/GMT+5"}.get(planned.schedule.zone)
        return replace(planned.schedule, zone=zone or planned.schedule.zone).slots(planned.last, now)


class LeapDayMissed(TickRules):
    """Takes every year for one of 365 days: the 60th is the first of March."""

    def calendar(self, planned: StandingSchedule, now: Instant) -> list[Instant]:
        leap_day = 2 * 365 + 31 + 28  # of 2032, counted from the origin of runs
        return [slot for slot in super().calendar(planned, now) if slot // DAY != leap_day]


class CatchesUp(TickRules):
    def slots(self, planned: StandingSchedule, instance: str, now: Instant) -> list[Instant]:
        return self.calendar(planned, now) if planned.schedule.cron else super().slots(planned, instance, now)


class SecondsDropped(TickRules):
    def calendar(self, planned: StandingSchedule, now: Instant) -> list[Instant]:
        fields = planned.schedule.cron.split()
        return replace(planned.schedule, cron=" ".join(fields[-5:])).slots(planned.last, now)


CALENDARS: Final = Theme.of(
    "slots as a calendar means them, in the zone of the schedule",
    Mistake(
        name="cron-zone-ignored",
        sentence="A cron expression is read in UTC, although its schedule names another zone.",
        source="a zone that is stored but not passed on",
        finds=("slot_missed", "slot_unplanned"),
        rules=(ZoneIgnored,),
    ),
    Mistake(
        name="cron-by-wall-clock",
        sentence="When the clocks change, a repeated hour gets its slot twice, and a skipped hour gets none.",
        source="a parser that compares the fields of the wall clock",
        finds=("slot_missed", "slot_unplanned"),
        rules=(WallClockHours,),
    ),
    Mistake(
        name="cron-offset-frozen",
        sentence="A zone keeps the offset from UTC that it had when the schedule was set.",
        source="an offset kept as a number",
        finds=("slot_missed", "slot_unplanned"),
        rules=(OffsetFrozen,),
    ),
    Mistake(
        name="cron-leap-day-missed",
        sentence="There is no 29th of February.",
        source="a year of 365 days",
        finds=("slot_missed",),
        rules=(LeapDayMissed,),
    ),
    Mistake(
        name="cron-catches-up",
        sentence="A schedule that wants only the latest missed slot gets a job for every missed slot.",
        source="a loop over all missed slots",
        finds=("slot_unplanned",),
        rules=(CatchesUp,),
    ),
    Mistake(
        name="cron-seconds-dropped",
        sentence="The seconds of a cron expression with six fields are ignored.",
        source="a parser of five fields",
        finds=("slot_missed", "slot_unplanned"),
        rules=(SecondsDropped,),
    ),
    stands_for=BlindSpot.CALENDARS,
)


# large values ---------------------------------------------------------------------------------------------------------


class TokenOf32Bits(ClaimRules):
    def raised(self, row: JobView) -> int:
        return (row.token + 1 + 2**31) % 2**32 - 2**31


class TokenAsFloat(ClaimRules):
    """A number of JavaScript's."""

    def raised(self, row: JobView) -> int:
        return int(float(row.token) + 1.0)


class KeyCutShort(KeyRules):
    """A column of 63 characters that truncates."""

    def key_holder(self, tool: str, key: str) -> JobId | None:
        alike = (row for row in self.queue.live.values() if row.tool == tool and row.unique_key is not None)
        return next((row.id for row in alike if (row.unique_key or "")[:63] == key[:63]), None)


class KeyWithoutCase(KeyRules):
    """A column whose collation knows no case and no blanks at the end."""

    def key_holder(self, tool: str, key: str) -> JobId | None:
        alike = (row for row in self.queue.live.values() if row.tool == tool and row.unique_key is not None)
        return next((row.id for row in alike if _folded(row.unique_key or "") == _folded(key)), None)


def _folded(key: str) -> str:
    return key.rstrip().casefold()


class PriorityOf16Bits(RequestRules):
    def created(self, request: JobRequest, now: Instant) -> JobView:
        row = super().created(request, now)
        return row._replace(priority=max(-(2**15), min(row.priority, 2**15 - 1)))


class PriorityAsFloat(RequestRules):
    """A number of JavaScript's."""

    def created(self, request: JobRequest, now: Instant) -> JobView:
        return super().created(request, now)._replace(priority=int(float(request.priority)))


class EmptyKeyIsNone(KeyRules):
    def key_holder(self, tool: str, key: str) -> JobId | None:
        return super().key_holder(tool, key) if key else None


class FalsyInputDropped(RequestRules):
    def created(self, request: JobRequest, now: Instant) -> JobView:
        return super().created(request, now)._replace(input=request.input or None)


class IdAgainOverwrites(MemoryQueue):
    """`INSERT ... ON CONFLICT (id) DO UPDATE`, where the job has ended."""

    def enqueue(self, request: JobRequest) -> Outcome:
        row = self.rows.get(request.id)
        if row is None or row.status not in TERMINAL or self.keys.holder(request) is not None:
            return super().enqueue(request)
        self.put(self.requests.created(request, self.now("producer")))
        return done(request.id)


class AttemptsInAByte(ClaimRules):
    def counted(self, row: JobView) -> int:
        return 1 if row.attempts < 127 else 0


class CommitsInPart(RequestRules):
    def publish(self, rows: tuple[JobView, ...]) -> None:
        super().publish(rows[:1])


class ClaimLooksAtOnePage(ClaimRules):
    PAGE = 100

    def due(self, now: Instant) -> list[JobView]:
        found = [row for row in self.queue.unfinished() if self.is_due(row, now)][: self.PAGE]
        return sorted(found, key=self.claim_order)


class ClaimLooksAtAThousand(ClaimRules):
    """Reads the first rows that wait, in order, and leaves out afterwards what is not due."""

    def due(self, now: Instant) -> list[JobView]:
        waiting = sorted((row for row in self.queue.unfinished() if row.status is PENDING), key=self.claim_order)
        return [row for row in waiting[:1_000] if self.is_due(row, now)]


class ExpireLooksAtAThousand(MemoryQueue):
    """Reads the oldest rows that have not ended, and looks for overdue leases among them."""

    def expire(self) -> Outcome:
        now = self.now("queue")
        overdue = [row for row in islice(self.unfinished(), 1_000) if self.upkeep.is_overdue(row, now)]
        return self.upkeep.take_back(overdue, OVERDUE)


LARGE: Final = Theme.of(
    "numbers, names and crowds at their limits",
    Mistake(
        name="token-of-32-bits",
        sentence="A fencing token has only 32 bits, and wraps around.",
        source="a sequence that is larger than its column",
        finds=("token_reused",),
        rules=(TokenOf32Bits,),
    ),
    Mistake(
        name="token-as-float",
        sentence="A fencing token passes through a JavaScript number, where 2^53 and 2^53 + 1 are equal.",
        source="bigint as a JavaScript number",
        finds=("token_reused",),
        rules=(TokenAsFloat,),
    ),
    Mistake(
        name="key-cut-short",
        sentence="Only the first 63 characters of a unique key count.",
        source="an index over a prefix",
        finds=("unique_key_stuck",),
        rules=(KeyCutShort,),
    ),
    Mistake(
        name="key-without-case",
        sentence="Unique keys that differ only in case, or in trailing spaces, count as one.",
        source="a collation that ignores case and pads",
        finds=("unique_key_stuck",),
        rules=(KeyWithoutCase,),
    ),
    Mistake(
        name="priority-of-16-bits",
        sentence="A priority beyond 16 bits is cut to the largest that fits.",
        source="a smallint column",
        finds=("option_dropped",),
        rules=(PriorityOf16Bits,),
    ),
    Mistake(
        name="priority-as-float",
        sentence="A priority passes through a JavaScript number, where 2^53 and 2^53 + 1 are equal.",
        source="bigint as a JavaScript number",
        finds=("option_dropped",),
        rules=(PriorityAsFloat,),
    ),
    Mistake(
        name="empty-key-is-none",
        sentence="An empty unique key counts as none.",
        source="`if (key)` in place of `if (key !== undefined)`",
        finds=("unique_key_shared",),
        rules=(EmptyKeyIsNone,),
    ),
    Mistake(
        name="falsy-input-dropped",
        sentence="An input that is false, 0, empty text, or an empty list or object is stored as null.",
        source="`input || null` in place of `input ?? null`",
        finds=("option_dropped",),
        rules=(FalsyInputDropped,),
    ),
    Mistake(
        name="id-again-overwrites",
        sentence="Sending the id of an ended job again overwrites it.",
        source="`ON CONFLICT (id) DO UPDATE`",
        finds=("terminal_job_revived",),
        queue=IdAgainOverwrites,
    ),
    Mistake(
        name="attempts-in-a-byte",
        sentence="Attempts are counted in a byte, and stop at the largest number that fits.",
        source="a tinyint column",
        finds=("attempt_not_counted",),
        rules=(AttemptsInAByte,),
    ),
    Mistake(
        name="commits-in-part",
        sentence="Of several jobs in one transaction only the first becomes visible; the others are lost.",
        source="a loop that returns after its first insert",
        finds=("committed_job_lost",),
        rules=(CommitsInPart,),
    ),
    Mistake(
        name="claim-looks-at-one-page",
        sentence="A claim orders by priority only the first page of a long queue.",
        source="LIMIT before ORDER BY",
        finds=("priority_inversion",),
        rules=(ClaimLooksAtOnePage,),
        stands_for=BlindSpot.LONG_QUEUES,
    ),
    Mistake(
        name="claim-looks-at-a-thousand",
        sentence="A claim reads the first 1000 waiting rows, and only then drops those that are not due.",
        source="LIMIT before the condition on the start time",
        finds=("due_job_left", "job_never_run"),
        rules=(ClaimLooksAtAThousand,),
        stands_for=BlindSpot.LONG_QUEUES,
    ),
    Mistake(
        name="expire-looks-at-a-thousand",
        sentence="Expiry looks for expired leases only among the oldest 1000 unfinished jobs.",
        source="a page of rows without a condition on their state",
        finds=("overdue_claim_left", "job_stuck"),
        queue=ExpireLooksAtAThousand,
        stands_for=BlindSpot.LONG_QUEUES,
    ),
    stands_for=BlindSpot.LARGE_VALUES,
)


# settings at their ends -----------------------------------------------------------------------------------------------


class NoDelayIsUnset(EndRules):
    def retrying(self, row: JobView) -> Settings:
        settings = super().retrying(row)
        return settings.changed(retry_delay=settings.retry_delay or 30 * SECOND)


class BacksOffAlways(EndRules):
    def retrying(self, row: JobView) -> Settings:
        return super().retrying(row).changed(retry_backoff=True)


class BeatsForOne(Worker):
    """Keeps the lease of the job that runs; the others of its batch wait, and theirs run out."""

    def heartbeats(self, claims: list[Claim]) -> Steps:
        outcome: Outcome = yield VerbCall("heartbeat", (claims[0],), claims[0].job, claims[0].token)
        if outcome.kind is OutcomeKind.REFUSED:
            claims.pop(0)


ENDS: Final = Theme.of(
    "settings that mean what they say at both ends of their ranges",
    Mistake(
        name="no-delay-is-unset",
        sentence="A retry delay of 0 counts as not set: the default applies.",
        source="`delay || 30` in place of `delay ?? 30`",
        finds=("backoff_out_of_range",),
        rules=(NoDelayIsUnset,),
    ),
    Mistake(
        name="backs-off-always",
        sentence="Backoff stays on although it was switched off.",
        source="a flag that is read from the wrong place",
        finds=("backoff_out_of_range",),
        rules=(BacksOffAlways,),
    ),
    Mistake(
        name="worker-beats-for-one",
        sentence="In a batch, a worker extends only the lease of the job that it is running.",
        source="a heartbeat inside the loop over a batch",
        finds=("healthy_claim_taken_back",),
        worker=BeatsForOne,
    ),
    stands_for=BlindSpot.ENDS,
)


# handlers that live on ------------------------------------------------------------------------------------------------


class HandlerLivesOn(Worker):
    """A race of the handler against a timer: the one that loses is not stopped."""

    def report_ending(self, claim: Claim, ending: Ending | None) -> Steps:
        if ending is not None:
            yield from super().report_ending(claim, ending)
            return
        world, plan = self.world, self.world.plan(claim.job)
        hangs = plan.ending(claim.attempt) is Ending.HANG
        rest = world.settings.lease if hangs else plan.duration(claim.attempt, world.settings) - self.allowed(claim)

        def end() -> None:
            if not world.closed:
                world.effect(self.name, claim, "ended", "timeout")

        world.services.later(f"handler of {claim.job}", max(rest, SECOND), end)
        yield from self.insist(VerbCall("fail", (claim, "timed out", False), claim.job, claim.token))


LIVING_ON: Final = Theme.of(
    "a timeout that ends its handler, or waits for it",
    Mistake(
        name="handler-lives-on",
        sentence="A job that timed out is retried while its handler is still at work.",
        source="`Promise.race` of a handler and a timer",
        finds=("concurrent_execution",),
        worker=HandlerLivesOn,
    ),
    stands_for=BlindSpot.LIVING_ON,
)


# what is documented ---------------------------------------------------------------------------------------------------


class KeepsNoErrorOfTheDead(UpkeepRules):
    """As documented: a claim that is taken back leaves no error."""

    def taken_back(self, row: JobView, why: str, nth: int) -> JobView:
        return self.queue.endings.failed(row, "", nth=nth)


class KeepsNoErrorAtAll(EndRules):
    """Spreads what is documented of a dead worker to one that reports."""

    def recorded(self, error: str) -> str:
        return ""


class TakesLateResultsOfTheWaiting(EndRules):
    """As documented: the result of a claim that was taken back counts while the job waits for its retry."""

    def held(self, claim: Claim, verb: str) -> JobView | None:
        row = self.queue.rows.get(claim.job)
        if verb == "complete" and row is not None and row.queue_state is QueueState.RETRY and row.token == claim.token:
            return row
        return super().held(claim, verb)


class TakesLateResultsOfTheRunning(TakesLateResultsOfTheWaiting):
    """Asks for the status only, so that another's claim is settled too."""

    def held(self, claim: Claim, verb: str) -> JobView | None:
        row = self.queue.rows.get(claim.job)
        runs = verb == "complete" and row is not None and row.status is PROCESSING
        return row if runs else super().held(claim, verb)


TAKING_BACK: Final = frozenset({"expire", "rescue"})
_OF_THE_DEAD: Final = Documented("a made-up manual: what a dead worker held keeps no error", verbs=TAKING_BACK)
_WHILE_IT_WAITS: Final = Documented(
    "a made-up manual: a late result counts as long as its job waits for a retry",
    verbs=frozenset({"complete"}),
    states=frozenset({PENDING}),
)

EXCUSES: Final = Theme.of(
    "a deviation that stays where it is documented",
    Mistake(
        name="documented-loss-spreads",
        sentence="No error is stored, as documented for the attempt of a dead worker, but also if the worker "
        "reports one.",
        source="one function for both ways in which an attempt fails",
        finds=("error_lost",),
        rules=(KeepsNoErrorAtAll, KeepsNoErrorOfTheDead),
        contract=Contract(documented={"error_lost": _OF_THE_DEAD}),
        documented=(KeepsNoErrorOfTheDead,),
    ),
    Mistake(
        name="documented-late-result-spreads",
        sentence="A late result counts while its job waits, as documented, but also while another worker runs it.",
        source="a condition on the status that allows one status more",
        finds=("stale_complete",),
        rules=(TakesLateResultsOfTheRunning,),
        contract=Contract(documented=dict.fromkeys(("stale_complete", "illegal_transition"), _WHILE_IT_WAITS)),
        documented=(TakesLateResultsOfTheWaiting,),
    ),
    stands_for=BlindSpot.EXCUSES,
)


# outages --------------------------------------------------------------------------------------------------------------


class StopsBeating(Worker):
    """The timer of a batch ends where a heartbeat raises, and the batch runs on."""

    silent: list[Claim] | None = None

    def heartbeats(self, claims: list[Claim]) -> Steps:
        if self.silent is claims:
            return
        for claim in list(claims):
            outcome: Outcome = yield VerbCall("heartbeat", (claim,), claim.job, claim.token)
            if outcome.kind is OutcomeKind.REFUSED:
                claims.remove(claim)
            elif outcome.kind is OutcomeKind.UNKNOWN:
                self.silent = claims
                return


class CompletesInTheTry(Worker):
    """Runs the job and reports it in one `try`: what the report raises is taken for what the job raised."""

    def report_ending(self, claim: Claim, ending: Ending | None) -> Steps:
        if ending is not Ending.SUCCEED:
            yield from super().report_ending(claim, ending)
            return
        self.world.effect(self.name, claim, "ended", "success")
        output = {"attempt": claim.attempt, "by": self.name}
        outcome: Outcome = yield VerbCall("complete", (claim, output), claim.job, claim.token)
        if outcome.kind is OutcomeKind.UNKNOWN:
            error = "Error: Connection terminated unexpectedly"
            yield from self.insist(VerbCall("fail", (claim, error, False), claim.job, claim.token))


OUTAGES: Final = Theme.of(
    "a worker that goes on where the store was away for a moment",
    Mistake(
        name="worker-stops-beating",
        sentence="A worker sends no more heartbeats after one that got no reply, although its job keeps running.",
        source="a timer that stops if its callback raises",
        finds=("healthy_claim_taken_back",),
        worker=StopsBeating,
    ),
    Mistake(
        name="completes-in-the-try",
        sentence="A worker that gets no reply to its report of a success reports a failure.",
        source="`try { await handler(job); await complete(job) } catch (error) { await fail(job, error) }`",
        finds=("success_discarded",),
        worker=CompletesInTheTry,
    ),
    stands_for=BlindSpot.OUTAGES,
)
