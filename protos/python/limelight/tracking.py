"""One tracked video from the client's side: what is sent when, and what becomes of a cut stream.

`TrackCall` is free of input and output: `client` moves its messages, blocking or awaiting, and asks
it what comes next. It counts credits in both directions, keeps changes until they can be sent, and
knows from which frame on a stream that was cut goes on.
"""

import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import grpc

from limelight import arguments
from limelight.convert.enums import MASK_FORMAT, REVIEW_MODE
from limelight.convert.plans import query_to_proto, selection_to_proto
from limelight.convert.prompts import change_to_proto, object_to_proto, range_to_proto
from limelight.errors import from_rpc
from limelight.proxies import Proxy
from limelight.retries import Attempts, RetryBudget, RetryPolicy
from limelight.tasks import MaskFormatName, explicit_queries, member, review_mode
from limelight.tracks import (
    TrackedFrame,
    TrackingEvent,
    TrackStarted,
    TrackSummary,
    tracking_event_from_proto,
)
from limelight.v1 import video_pb2
from limelight.values import (
    ConceptQuery,
    MaskFormat,
    ObjectPrompt,
    PromptChange,
    Selection,
    TimeRange,
)
from limelight.videos import WINDOW

# Frames that the service may send ahead of the reader.
FRAME_WINDOW = 32
# Calls, one after the other without a frame, by which a stream that was cut is gone on with.
_RESUMPTIONS = 8


@dataclass(frozen=True, slots=True)
class TrackWant:
    """What is asked of a video; the arguments of `Client.track` beside the video."""

    instruction: str | None = None
    phrases: Sequence[str] | None = None
    queries: Sequence[ConceptQuery] | None = None
    exclude: Sequence[str | ConceptQuery] | None = None
    select: Selection | None = None
    objects: Sequence[ObjectPrompt] = ()
    score_threshold: float | None = None
    max_objects: int | None = None
    mask_format: MaskFormatName = "rle"
    review: bool | None = None
    time_range: TimeRange | None = None
    stride: int = 1
    max_side: int | None = None
    changed_only: bool = False
    resume_token: str = ""
    next_frame: int = 0

    def config(self, live: bool) -> video_pb2.TrackConfig:
        """The first message.

        Raises:
            TypeError: an instruction beside queries, nothing to track, or a value of another kind
                than its argument takes; the message names both.
            ValueError: an unknown mask format, or a number or text that no request can hold.
        """
        if self.resume_token:
            return video_pb2.TrackConfig(
                resume_token=self.resume_token,
                next_frame=self.next_frame,
                live=live,
                frame_window=FRAME_WINDOW,
            )
        include, exclude = explicit_queries(self.phrases, self.queries, self.exclude)
        explicit = self.phrases is not None or self.queries is not None
        if explicit and self.instruction is not None:
            raise TypeError("give either an instruction or phrases and queries")
        if not explicit and self.instruction is None and not self.objects:
            raise TypeError("give an instruction, phrases, queries or objects")
        if not explicit and (self.exclude is not None or self.select is not None):
            raise TypeError("exclude and select go with phrases and queries")
        config = video_pb2.TrackConfig(
            objects=map(object_to_proto, self.objects),
            score_threshold=arguments.number_or_none(self.score_threshold, "score_threshold"),
            max_objects=arguments.whole_or_0(self.max_objects, "max_objects"),
            mask_format=MASK_FORMAT.to_proto(member(MaskFormat, self.mask_format, "mask format")),
            review=REVIEW_MODE.to_proto(review_mode(self.review)),
            range=None if self.time_range is None else range_to_proto(self.time_range),
            stride=arguments.whole(self.stride, "stride"),
            max_side=arguments.whole_or_0(self.max_side, "max_side"),
            changed_only=arguments.truth(self.changed_only, "changed_only"),
            frame_window=FRAME_WINDOW,
            live=live,
        )
        if self.instruction is not None:
            config.instruction = arguments.text(self.instruction, "instruction")
        elif explicit:
            config.queries.SetInParent()
            config.queries.include.extend(map(query_to_proto, include))
            config.queries.exclude.extend(map(query_to_proto, exclude))
            if self.select is not None:
                config.queries.select.CopyFrom(
                    selection_to_proto(arguments.selection(self.select, "select"))
                )
        return config


class TrackCall:
    """One tracked video, over as many calls as it takes. Not safe between threads by itself.

    Args:
        want: what is tracked.
        live: whether the media are pictures one by one.
        timeout: seconds for all of it; None: as long as it takes.
        request_id: of the first call; made up unless given.
        retry: how often and how soon a call is made again; counted anew whenever frames came.
        proxy: that the calls go through.
        budget: of the client whose call this is, for calls that are made again before any frame.
    """

    def __init__(
        self,
        want: TrackWant,
        live: bool,
        timeout: float | None,
        request_id: str | None,
        retry: RetryPolicy,
        proxy: Proxy | None = None,
        budget: RetryBudget | None = None,
    ) -> None:
        self._proxy = proxy
        self._budget = budget or RetryBudget(retry.budget)
        self._config = want.config(live)
        self._retry = retry
        # Who has a part of the answer has more to lose, and a gateway takes seconds to come back.
        self._patience = replace(retry, attempts=max(retry.attempts, _RESUMPTIONS))
        if retry.attempts == 1:
            self._patience = retry
        self._expires_at = float("inf") if timeout is None else time.monotonic() + timeout
        self.request_id = request_id or uuid.uuid4().hex
        self.resume_token = want.resume_token
        self.next_frame = want.next_frame
        self.resumed = 0
        """How often the stream was cut and went on."""
        self._started = False
        self._attempts = self._fresh_attempts()
        self._changes: deque[PromptChange] = deque()
        self.done = False
        self.calls = 0
        """Calls that were begun, by which what belongs to an earlier one is told."""
        self._begin()

    def _begin(self) -> None:
        """What holds for one call only."""
        self.calls += 1
        self._opening: video_pb2.TrackVideoRequest | None = video_pb2.TrackVideoRequest()
        self._opening.config.CopyFrom(self._config)
        self._credits = WINDOW
        self._taken = 0
        self._media_over = False
        self.offset: int | None = None
        """Where the media begin; None until the service has said so."""

    def _fresh_attempts(self) -> Attempts:
        """Those after a sign of life; of a stream that has begun, the client's budget has none."""
        if self._started:
            return Attempts(self._patience, RetryBudget(0), self._expires_at)
        return Attempts(self._retry, self._budget, self._expires_at)

    def timeout(self) -> float | None:
        """Seconds left for the next call."""
        left = self._expires_at - time.monotonic()
        return None if left == float("inf") else max(0.0, left)

    def change(self, change: PromptChange) -> None:
        """Send `change` as soon as can be."""
        self._changes.append(change)

    def control(self) -> video_pb2.TrackVideoRequest | None:
        """What is to be sent before any media; None if there is nothing."""
        if self._opening is not None:
            opening, self._opening = self._opening, None
            return opening
        if self.offset is None:
            return None
        if self._changes:
            return video_pb2.TrackVideoRequest(change=change_to_proto(self._changes.popleft()))
        if self._taken * 2 >= FRAME_WINDOW:
            taken, self._taken = self._taken, 0
            return video_pb2.TrackVideoRequest(credits=taken)
        return None

    @property
    def wants_media(self) -> bool:
        """Whether a message with media may be sent now."""
        return self.offset is not None and not self._media_over and self._credits > 0

    def media(self, message: video_pb2.TrackVideoRequest | None) -> video_pb2.TrackVideoRequest:
        """The message to send for what the source gave; None: its end."""
        if message is None:
            self._media_over = True
            return video_pb2.TrackVideoRequest(media_end=True)
        self._credits -= 1
        return message

    def received(self, response: video_pb2.TrackVideoResponse) -> TrackingEvent | None:
        """Take a message of the service; what it tells the caller."""
        self._credits += response.credits
        if response.WhichOneof("event") == "started":
            self.offset = response.started.media_bytes
        event = tracking_event_from_proto(response)
        match event:
            case TrackStarted():
                self.resume_token = event.resume_token or self.resume_token
                if self._started:
                    return None  # its caller need not know that there was a cut
                self._started = True
                self._budget.answered()
                self._attempts = self._fresh_attempts()
            case TrackedFrame():
                self._taken += 1
                self._attempts = self._fresh_attempts()
                if event.index < self.next_frame:
                    return None
                self.next_frame = event.index + 1
            case TrackSummary():
                self.done = True
        return event

    def wait_or_raise(self, exc: grpc.RpcError) -> float:
        """Seconds until the next call, which goes on with the stream if it had begun; raises the
        `LimelightError` if there is to be none.
        """
        error = from_rpc(exc, self.request_id, self._proxy)
        delay = self._attempts.after(error)
        if delay is None:
            raise error from exc
        if self._started:
            self.resumed += 1
            self._config = video_pb2.TrackConfig(
                resume_token=self.resume_token,
                next_frame=self.next_frame,
                live=self._config.live,
                frame_window=self._config.frame_window,
            )
        self._begin()
        return delay
