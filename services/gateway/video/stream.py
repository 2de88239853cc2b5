"""One tracked video, over all calls of its client and all sessions with replicas.

In reading order: the first picture is planned on, a session is opened and given groups and changes,
its frames are chosen from and told; a scene cut or lost targets make another plan; a session that
goes away is followed by one that goes on from the last state; a summary is the end. `run` does all
of it within one call, and goes on where it was when it is run again within another.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from limelight.convert.answers import model_from_proto, model_to_proto
from limelight.convert.plans import plan_from_proto, plan_to_proto
from limelight.convert.prompts import change_to_proto
from limelight.faults import InvalidRequest, Reason
from limelight.internal.v1 import stream_pb2
from limelight.v1 import video_pb2
from limelight.values import (
    AddQuery,
    DropPhrase,
    ModelInfo,
    Plan,
    PlanCause,
    PlanOutcome,
    PromptChange,
    RemoveObject,
    ReviewMode,
    SetObject,
    Verdict,
)
from services.domain import (
    Candidate,
    FrameTracks,
    MediaEnd,
    PacketGroup,
    SegmentedInstance,
    SessionState,
    TrackOpened,
    TrackOpening,
    TrackStep,
)
from services.errors import Cancelled, Idle, Overloaded, Unavailable
from services.gateway.answer_size import MaskRoom
from services.gateway.mask_writing import written_masks
from services.gateway.metrics import GatewayMetrics
from services.gateway.peers import FIRST_RETRY_S, LAST_RETRY_S, PlannerPeer, TrackerPeer
from services.gateway.settings import Settings
from services.gateway.video.checkpoint import (
    choice_from_proto,
    choice_to_proto,
    epoch_from_proto,
    epoch_to_proto,
    live_from_proto,
    live_to_proto,
    prompts_from_proto,
    prompts_to_proto,
    session_from_proto,
    session_to_proto,
    tally_from_proto,
    tally_to_proto,
)
from services.gateway.video.choice import Chooser, ToldObject
from services.gateway.video.fields import as_the_client_wrote
from services.gateway.video.journal import NoJournal, StreamJournal
from services.gateway.video.outbox import Outbox
from services.gateway.video.prompts import Prompts
from services.gateway.video.reading import CHANGE, MASKS
from services.gateway.video.sources import KeyPicture, SourceItem, StreamSource
from services.gateway.video.tally import TrackTally, summarize_track
from services.gateway.video.tasks import TrackTask
from services.gateway.video.writing import (
    frame_to_response,
    masklet_to_proto,
    plan_to_response,
    summary_to_response,
)
from services.rpc.metadata import CallContext
from services.stages import StageTimer, with_cpu

logger = logging.getLogger(__name__)

R = TypeVar("R")

_UNKNOWN_ID = "no object that was told has the id {}"


@dataclass(frozen=True, slots=True)
class StreamTools:
    """What streams work with."""

    planner: PlannerPeer
    tracker: TrackerPeer
    executor: Executor
    metrics: GatewayMetrics
    settings: Settings


@dataclass(frozen=True, slots=True)
class _Epoch:
    """A plan that holds from a frame on."""

    from_frame: int
    plan: Plan
    cause: PlanCause


class TrackStream:
    """One video.

    Args:
        token: by which its client finds it again.
        tenant: whose it is.
        task: what is wanted.
        source: its media.
        timer: of the gateway's stages; a stream may take an hour, so it tells each at once.
        tools: to work with.
    """

    def __init__(
        self,
        token: str,
        tenant: str,
        task: TrackTask,
        source: StreamSource,
        timer: StageTimer,
        tools: StreamTools,
    ) -> None:
        self.token = token
        self.tenant = tenant
        self.task = task
        self.source = source
        self.outbox = Outbox(task.frame_window, tools.settings.kept_frame_bytes)
        self.next_frame = 0
        """The first frame that was not answered."""
        self.resumed = 0
        """How often it went on at another replica."""
        self.done = False
        """Whether the summary is written."""
        self._timer = timer
        self.journal: StreamJournal = NoJournal()
        self.disowned = False
        """Whether it goes on at another gateway."""
        self._restored = False
        self._tools = tools
        self._prompts: Prompts | None = None
        self._chooser: Chooser | None = None
        self._plan = Plan()
        self._picture: KeyPicture | None = None
        self._early: list[PromptChange] = []
        self.changes = 0
        """Changes of the client's so far."""
        self._changed = asyncio.Event()
        self._forget: list[tuple[int, list[int]]] = []
        self._epochs: deque[_Epoch] = deque()
        self._planned_groups: set[int] = set()
        self._replans = 0
        self._seen_s: float | None = None
        self._plan_pending = False
        """Whether no group was handed over since the last plan."""
        self._plan_acts_from = 0
        """The first frame that a session tracks by the last plan."""
        self._state: SessionState | None = None
        self._opened = False
        self._all_sent = False
        self._tracked = False
        self._handed: deque[tuple[int, float]] = deque()
        self._last: dict[int, ToldObject] = {}
        self._last_numbers: set[int] = set()
        """Of the objects that the last frame told at another gateway."""
        self._models: list[ModelInfo] = []
        self._tally = TrackTally()
        self._dropped = 0

    @property
    def frames(self) -> int:
        """Frames answered."""
        return self._tally.frames

    @property
    def unseen_frame(self) -> int:
        """The first frame that will come, if none waits to be sent."""
        return max(self.next_frame, self.outbox.given_up + 1)

    async def run(self, call: CallContext) -> None:
        """Work to the end of the video. Raises `ServiceError`, and may be run again after it."""
        if self._chooser is None:
            await self._begin(call)
        elif self._restored:
            await self._begin_again()
        if not self._tracked:
            await self._track(call)
        if not self.done:
            await self._tell_dropped()
            await self.outbox.put(self._summary())
            self.done = True
        self.outbox.end()
        self.source.close()

    def change(self, change: PromptChange) -> None:
        """Take a change of the client's.

        Raises:
            InvalidRequest: it comes too late, or names what is not there.
        """
        most = self._tools.settings.max_changes
        self.changes += 1
        if self.changes > most:
            raise InvalidRequest(
                Reason.OPTION_INVALID, f"more than {most} changes of a video", field=CHANGE
            )
        if change.at_frame is not None and change.at_frame < self.next_frame:
            raise InvalidRequest(
                Reason.FRAME_PASSED,
                f"frame {change.at_frame} was answered already; the next is {self.next_frame}",
                field=CHANGE / "at_frame",
            )
        if self._chooser is None:
            self._early.append(change)  # nothing to hold it against yet
        else:
            self._apply(change)
        self.journal.change(self.changes, change_to_proto(change))

    def progress(self) -> video_pb2.TrackProgress:
        """How far it is."""
        return video_pb2.TrackProgress(
            frames=self._tally.frames,
            frames_expected=self.source.frames_expected,
            media_bytes=self.source.media_bytes,
            frames_per_s=self._tally.frames_per_s,
        )

    def close(self) -> None:
        """Give everything back; it cannot be run again."""
        self.journal.stop()
        self.source.close()

    # --- at another gateway -------------------------------------------------------------------

    def disown(self) -> None:
        """Another gateway goes on with it: whoever still works on it here stops."""
        self.disowned = True
        self.outbox.fail(Cancelled("the stream goes on at another gateway"))

    def checkpoint(self) -> stream_pb2.StreamCheckpoint:
        """All that another gateway needs but the media, right before `next_frame`."""
        assert self._prompts is not None
        assert self._chooser is not None
        live = self.source.live_point()
        return stream_pb2.StreamCheckpoint(
            next_frame=self.next_frame,
            session=None if self._state is None else session_to_proto(self._state),
            plan=plan_to_proto(self._plan),
            prompts=prompts_to_proto(self._prompts),
            choice=choice_to_proto(self._chooser),
            epochs=[
                epoch_to_proto(item.from_frame, item.plan, item.cause) for item in self._epochs
            ],
            planned_groups=sorted(self._planned_groups),
            replans=self._replans,
            seen_s=self._seen_s,
            plan_pending=self._plan_pending,
            plan_acts_from=self._plan_acts_from,
            changes=self.changes,
            removals=[
                stream_pb2.StreamRemoval(at_frame=at_frame, object_ids=ids)
                for at_frame, ids in self._forget
            ],
            tally=tally_to_proto(self._tally),
            models=map(model_to_proto, self._models),
            dropped=self._dropped,
            resumed=self.resumed,
            last_numbers=sorted({*self._last, *self._last_numbers}),
            live=None if live is None else live_to_proto(live),
        )

    def restore(self, message: stream_pb2.StreamCheckpoint, next_frame: int) -> None:
        """Go on from another gateway's checkpoint; the client lacks what is from `next_frame` on.

        Raises:
            InvalidRequest: it holds values that only a newer gateway knows.
        """
        self._restored = True
        self.next_frame = message.next_frame
        self.outbox.skip_to(next_frame)
        if message.HasField("session"):
            self._state = session_from_proto(message.session)
        self._plan = plan_from_proto(message.plan)
        self._prompts = prompts_from_proto(message.prompts, self.task.objects)
        self._chooser = choice_from_proto(message.choice, self._prompts)
        self._epochs.extend(_Epoch(*epoch_from_proto(item)) for item in message.epochs)
        self._planned_groups = set(message.planned_groups)
        self._replans = message.replans
        self._seen_s = message.seen_s if message.HasField("seen_s") else None
        self._plan_pending = message.plan_pending
        self._plan_acts_from = message.plan_acts_from
        self.changes = message.changes
        self._forget = [(item.at_frame, list(item.object_ids)) for item in message.removals]
        self._tally = tally_from_proto(message.tally)
        self._models = [model_from_proto(model) for model in message.models]
        self._dropped = message.dropped
        self.resumed = message.resumed + 1
        self._last_numbers = set(message.last_numbers)
        if self.task.live:
            self.source.go_on(live_from_proto(message.live))

    async def _begin_again(self) -> None:
        self._restored = False
        if not self.task.live:
            await self.source.prepare()
        if self.outbox.given_up < 0:  # nothing has reached the client that follows the plan
            await self.outbox.put(plan_to_response(self._plan, self.next_frame, PlanCause.START))

    def _record(self) -> None:
        if self.journal.due:
            content = self.checkpoint().SerializeToString()
            self.journal.checkpoint(self.next_frame, content, self.outbox.given_up)

    # --- the plan -----------------------------------------------------------------------------

    async def _begin(self, call: CallContext) -> None:
        plan = self.task.plan
        if self.task.instruction is None:
            await self.source.prepare()
        else:
            self._picture = await self.source.first_picture()
            with self._timer.stage("plan"):
                planned = await self._tools.planner.plan(
                    self._picture.content, self.task.instruction, call
                )
            self._took_part(planned.model)
            self._tools.metrics.plan_cache_hits.inc(planned.cached)
            plan = planned.plan
        assert plan is not None
        self._tools.metrics.plans.labels(plan.outcome.value).inc()
        self._tools.metrics.replans.labels(PlanCause.START.value).inc()
        self._plan = plan
        first = 0 if self._picture is None else self._picture.frame_index
        await self.outbox.put(plan_to_response(plan, first, PlanCause.START))
        self._prompts = Prompts(plan, self.task.objects)
        self._chooser = Chooser(self._prompts, plan, self._cap(plan))
        early, self._early = self._early, []
        for change in early:
            self._apply(change)
        self._record()

    def _cap(self, plan: Plan) -> int:
        """The caller's cap, where it cannot be left to the tracker.

        What is taken away must be tracked to be known, and does not count.
        """
        reduced = plan.select is not None or plan.exclude or self._reviews(plan)
        return self.task.max_objects if reduced or self._replans_left else 0

    def _reviews(self, plan: Plan) -> bool:
        if self.task.instruction is None or self.task.review is ReviewMode.NEVER:
            return False
        return plan.review or self.task.review is ReviewMode.ALWAYS

    @property
    def _replans_left(self) -> int:
        if self.task.instruction is None:
            return 0
        return self._tools.settings.max_replans - self._replans

    async def _replan(
        self, picture: KeyPicture, cause: PlanCause, at_frame: int | None, call: CallContext
    ) -> None:
        """Plan once more; what could not be planned leaves the plan as it is."""
        assert self.task.instruction is not None
        assert self._prompts is not None
        self._replans += 1
        try:
            with self._timer.stage("plan"):
                planned = await self._tools.planner.plan(
                    picture.content, self.task.instruction, call
                )
        except (Unavailable, Overloaded) as error:
            logger.warning("no new plan", extra={"fields": {"error": str(error)}})
            return
        self._tools.metrics.replans.labels(cause.value).inc()
        self._took_part(planned.model)
        if not planned.plan.include or planned.plan.outcome is PlanOutcome.DEGRADED:
            return  # the plan that there is is the better one
        self._prompts.replan(planned.plan, at_frame)
        from_frame = self.next_frame if at_frame is None else at_frame
        self._epochs.append(_Epoch(from_frame, planned.plan, cause))
        self._plan_pending = True
        self._changed.set()

    async def _next_plan(self, frame: FrameTracks) -> None:
        """Let the plans begin that hold from `frame` on."""
        assert self._chooser is not None
        while self._epochs and self._epochs[0].from_frame <= frame.index:
            epoch = self._epochs[0]
            await self.outbox.put(plan_to_response(epoch.plan, frame.index, epoch.cause))
            self._epochs.popleft()
            if not (_same(epoch.plan, self._plan) and self._chooser.holds(frame)):
                self._chooser.replan(epoch.plan)
            self._plan = epoch.plan

    # --- sessions -----------------------------------------------------------------------------

    async def _track(self, call: CallContext) -> None:
        """Sessions one after the other, until one has answered the last frame."""
        patience = _Patience(self._tools.settings, started=self.next_frame > 0)
        while not self._tracked:
            before, self._opened = self.next_frame, False
            try:
                with as_the_client_wrote(self.task):
                    await self._session(call)
            except (Unavailable, Overloaded, Idle) as error:
                if error.reason is Reason.PLANNER_UNAVAILABLE:
                    raise
                if isinstance(error, Idle):
                    # It is the client that takes its time; who is gone is not this side's to tell.
                    await self.outbox.room()
                pause_s = patience.pause_s(self._opened, self.next_frame > before)
                if pause_s is None or (not self.next_frame and isinstance(error, Overloaded)):
                    raise
                fields = {"next_frame": self.next_frame, "error": str(error)}
                logger.warning("a session went away", extra={"fields": fields})
                if self._opened and self.next_frame:
                    self.resumed += 1
                    self._tools.metrics.streams_resumed.labels("tracker").inc()
                await asyncio.sleep(pause_s)

    async def _session(self, call: CallContext) -> None:
        """One session with a replica, from the last state on."""
        assert self._prompts is not None
        state = self._state
        cap = 0 if self._chooser and self._chooser.max_objects else self.task.max_objects
        opening = TrackOpening(
            queries=self._prompts.first_queries,
            objects=self._prompts.objects,
            score_threshold=self.task.score_threshold,
            max_objects=cap,
            media_header=self.source.header,
            stride=self.task.stride,
            max_side=self.task.max_side,
            range=self.task.range,
            live=self.task.live,
            state=b"" if state is None else state.content,
            next_frame=self.next_frame,
        )
        self._all_sent = False
        self._handed.clear()
        self._tools.metrics.stream_sessions.inc()
        events = self._tools.tracker.track(opening, self._steps(state, call), call)
        async with aclosing(events):  # type: ignore[type-var]
            async for event in events:
                match event:
                    case TrackOpened(model):
                        self._opened = True
                        self._took_part(model)
                    case SessionState():
                        self._state = event
                        self._record()
                    case FrameTracks():
                        await self._frame(event, call)
        if not self._all_sent:
            raise Unavailable(
                Reason.SEGMENTER_UNAVAILABLE, "the tracker ended its session", retry_after_s=1.0
            )
        self._tracked = True

    async def _steps(
        self, state: SessionState | None, call: CallContext
    ) -> AsyncIterator[TrackStep]:
        """What a session is given: changes as they come, groups as it has room for them."""
        assert self._prompts is not None
        changes = self._prompts.changes
        sent, group = (0, 0) if state is None else (state.changes, state.group)
        items = self.source.items(group, watch_cuts=lambda: self._replans_left > 0)
        upcoming: asyncio.Task[SourceItem] | None = None
        try:
            while True:
                while sent < len(changes):
                    sent += 1
                    yield changes[sent - 1]
                if upcoming is None and not self._all_sent:
                    upcoming = asyncio.ensure_future(anext(items))
                await self._change_or(upcoming)
                if upcoming is None or not upcoming.done():
                    continue
                item, upcoming = upcoming.result(), None
                await self._plan_cut(item, call)
                while sent < len(changes):
                    sent += 1
                    yield changes[sent - 1]
                self._hand_over(item)
                yield item.step
        finally:
            if upcoming is not None:
                upcoming.cancel()
                await asyncio.wait({upcoming})
            await items.aclose()  # type: ignore[attr-defined]

    async def _change_or(self, upcoming: "asyncio.Task[SourceItem] | None") -> None:
        """Wait for a change, or for what comes next."""
        self._changed.clear()
        change = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait(
                {change} if upcoming is None else {change, upcoming},
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            change.cancel()

    def _hand_over(self, item: SourceItem) -> None:
        match item.step:
            case MediaEnd():
                self._all_sent = True
                return
            case PacketGroup(content, _):
                size = len(content)
            case frame:
                size = len(frame.content)
        self._handed.append((item.first_frame, time.monotonic()))
        if self._plan_pending:
            self._plan_pending = False
            self._plan_acts_from = item.first_frame
        self._tools.metrics.media_bytes.labels("out").inc(size)

    async def _plan_cut(self, item: SourceItem, call: CallContext) -> None:
        if item.cut is None or not isinstance(item.step, PacketGroup):
            return
        group = item.step.index
        if group in self._planned_groups or not self._replans_left:
            return
        await self._replan(item.cut, PlanCause.SCENE_CUT, item.cut.frame_index, call)
        self._planned_groups.add(group)

    # --- frames -------------------------------------------------------------------------------

    async def _frame(self, frame: FrameTracks, call: CallContext) -> None:
        """Answer one frame."""
        assert self._chooser is not None
        self.source.answered(frame.index)
        self._note_lag(frame.index)
        if frame.index < self.next_frame:
            return  # it went out before the session that answered it then went away
        await self._tell_dropped()
        await self._next_plan(frame)
        for at_frame, ids in self._forget:
            if at_frame <= frame.index:
                self._chooser.forget(ids)
        candidates = self._selecting(self._chooser.look, frame)
        if candidates:
            verdicts = await self._reviewed(frame, candidates, call)
            self._chooser.decide(candidates, verdicts, frame.width, frame.height)
        told, over = self._selecting(self._chooser.told, frame)
        await self._tell(frame, told, over + frame.over_cap, call)
        await self._look_for_lost(frame, told, call)

    def _selecting(self, function: Callable[[FrameTracks], R], frame: FrameTracks) -> R:
        """The result of `function(frame)`, timed."""
        with self._timer.stage("select"):
            result, cpu_s = with_cpu(function, frame)
        self._tools.metrics.worked("select", cpu_s)
        return result

    async def _tell(
        self, frame: FrameTracks, told: list[ToldObject], over_cap: int, call: CallContext
    ) -> None:
        shown, gone = told, []
        if self.task.changed_only:
            numbers = {item.number for item in told}
            gone = sorted({*self._last, *self._last_numbers} - numbers)
            shown = [item for item in told if self._differs(item)]
        with self._timer.stage("render"):
            most = call.message_bytes(self._tools.settings.max_message_bytes)
            room = MaskRoom(most, self.task.mask_format, MASKS)
            masks, masks_s = await written_masks(
                [item.track.mask for item in shown], room, self._tools.executor
            )
            response, cpu_s = with_cpu(frame_to_response, frame, shown, masks, gone, over_cap)
        self._tools.metrics.worked("render", masks_s + cpu_s)
        await self.outbox.put(response, frame.index)
        # From here on it is answered, whatever becomes of this call.
        self.next_frame = frame.index + 1
        self._last = {item.number: item for item in told}
        self._last_numbers.clear()
        self._tally.add(frame.index, told)
        for stage, milliseconds in frame.timings_ms.items():
            self._tally.spent(stage, milliseconds)
        self._tools.metrics.frames.inc()
        self._tools.metrics.instances.inc(len(told))

    def _differs(self, item: ToldObject) -> bool:
        last = self._last.get(item.number)
        return last is None or last.track.mask != item.track.mask or last.label != item.label

    async def _reviewed(
        self, frame: FrameTracks, candidates: Sequence[SegmentedInstance], call: CallContext
    ) -> tuple[Verdict, ...]:
        """The planner's verdicts on the first candidates of a plan; none where none are wanted."""
        picture, self._picture = self._picture, None
        if not self._reviews(self._plan):
            return ()
        if picture is None or picture.frame_index != frame.index:
            picture = await self.source.picture(frame.index)
        if picture is None:
            return ()
        assert self.task.instruction is not None
        most = self._tools.settings.max_review_candidates
        looked_at = [Candidate(item.id, item.phrase, item.mask) for item in candidates[:most]]
        with self._timer.stage("review"):
            reviewed = await self._tools.planner.review(
                picture.content, self.task.instruction, looked_at, call
            )
        self._took_part(reviewed.model)
        self._tools.metrics.review_rounds.inc()
        for verdict in reviewed.verdicts:
            self._tools.metrics.verdicts.labels(verdict.kind.value).inc()
        return reviewed.verdicts

    async def _look_for_lost(
        self, frame: FrameTracks, told: Sequence[ToldObject], call: CallContext
    ) -> None:
        """Plan anew when everything that was told is away for long."""
        blind = self._plan_pending or frame.index < self._plan_acts_from
        if told or (blind and self._seen_s is not None):
            self._seen_s = frame.timestamp_s
            return
        if self._seen_s is None or not self._replans_left:
            return
        if frame.timestamp_s - self._seen_s < self._tools.settings.lost_s:
            return
        self._seen_s = frame.timestamp_s
        picture = await self.source.picture(frame.index)
        if picture is not None:
            await self._replan(picture, PlanCause.ALL_LOST, None, call)

    async def _tell_dropped(self) -> None:
        dropped = self.source.dropped()
        if dropped:
            self._dropped += len(dropped)
            self._tools.metrics.frames_dropped.inc(len(dropped))
            await self.outbox.put(
                video_pb2.TrackVideoResponse(dropped=video_pb2.FramesDropped(frame_indices=dropped))
            )

    def _note_lag(self, index: int) -> None:
        while len(self._handed) > 1 and self._handed[1][0] <= index:
            self._handed.popleft()
        if self._handed and self._handed[0][0] <= index:
            self._tools.metrics.frame_lag_seconds.observe(time.monotonic() - self._handed[0][1])

    # --- changes ------------------------------------------------------------------------------

    def _apply(self, change: PromptChange) -> None:
        """Check a change against what is tracked, and hand it on in the sessions' numbers."""
        assert self._prompts is not None
        assert self._chooser is not None
        match change.change:
            case AddQuery():
                most = self._tools.settings.max_queries
                if self._prompts.active >= most:
                    raise InvalidRequest(
                        Reason.TOO_MANY_QUERIES,
                        f"{most} queries are tracked, the most at once",
                        field=CHANGE / "add_query",
                    )
                self._prompts.apply(change)
            case DropPhrase(phrase):
                if not self._prompts.tracks(phrase):
                    raise InvalidRequest(
                        Reason.QUERY_INVALID,
                        f'no query with the phrase "{phrase}" is tracked',
                        field=CHANGE / "drop_phrase",
                    )
                self._prompts.apply(change)
            case SetObject(prompt) if prompt.object_id:
                ids = self._known(prompt.object_id, "set_object")
                self._prompts.correct(change, ids[0])
            case RemoveObject(number):
                ids = self._known(number, "remove_object")
                self._forget.append((change.at_frame or self.next_frame, ids))
                for session_id in ids:
                    self._prompts.apply(PromptChange(RemoveObject(session_id), change.at_frame))
            case _:
                self._prompts.apply(change)
        self._changed.set()

    def _known(self, number: int, name: str) -> list[int]:
        assert self._chooser is not None
        ids = self._chooser.session_ids(number)
        if not ids:
            raise InvalidRequest(
                Reason.OBJECT_INVALID, _UNKNOWN_ID.format(number), field=CHANGE / name
            )
        return ids

    # --- the end ------------------------------------------------------------------------------

    def _summary(self) -> video_pb2.TrackVideoResponse:
        assert self._chooser is not None
        return summary_to_response(
            frames=self._tally.frames,
            masklets=[
                masklet_to_proto(masklet, self._chooser.verdict_of(masklet.number))
                for masklet in self._tally.masklets
            ],
            summary=summarize_track(self._plan, self._tally),
            dropped=self._dropped,
            resumed=self.resumed,
            warning=self._warning(),
            timings_ms={
                **self._timer.timings_ms,
                **self._tally.timings_ms,
                "total": self._timer.total_ms,
            },
            models=self._models,
        )

    def _warning(self) -> str:
        """What the file had that is not in the answer; empty for a sound one."""
        parts = [self.source.warning] if self.source.warning else []
        if not self.task.live:
            given = self.source.frames_given if self.task.range is None else None
            missing = self._tally.left_out(given, self.task.stride)
            if missing:
                frames = "1 frame" if missing == 1 else f"{missing} frames"
                parts.append(f"{frames} could not be decoded")
        return "; ".join(parts)

    def _took_part(self, model: ModelInfo) -> None:
        if model not in self._models:
            self._models.append(model)


class _Patience:
    """How long to look for another session.

    What has begun waits for a replica to come up; what has not is told soon that there is none.
    A video on which sessions end without a frame again and again is given up: it may be the cause.
    """

    def __init__(self, settings: Settings, started: bool) -> None:
        self._settings = settings
        self._started = started
        self._fruitless = 0
        self._absent = 0
        self._absent_since = time.monotonic()

    def pause_s(self, opened: bool, answered: bool) -> float | None:
        """Seconds to wait after a session that was `opened` or not; None: try no more."""
        self._started = self._started or answered
        if answered:
            self._fruitless = 0
        if opened:
            self._fruitless += not answered
            self._absent = 0
            self._absent_since = time.monotonic()
            if self._fruitless >= self._settings.session_attempts:
                return None
        else:
            self._absent += 1
            if not self._started and self._absent >= self._settings.peer_attempts:
                return None
            if time.monotonic() - self._absent_since > self._settings.tracker_away_s:
                return None
        tries = max(self._absent, self._fruitless, 1)
        pause_s: float = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** (tries - 1))
        return pause_s * random.uniform(0.75, 1.25)


def _same(a: Plan, b: Plan) -> bool:
    """Whether two plans look for the same."""
    return (a.include, a.exclude, a.select) == (b.include, b.exclude, b.select)
