"""Video sessions of one replica: opened within bounds, closed when idle, run by shared stages.

Free of gRPC and Ray. `VideoSegmenter.open` gives a `TrackingSession`; what a frame goes through is
`stepping.FrameStepper.step`.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from limelight.paths import FieldPath
from limelight.validation import check_share
from limelight.values import ConceptQuery, ModelInfo
from services.errors import InvalidRequest, Overloaded, Reason, TooLarge, Unavailable
from services.replica.metrics import ReplicaMetrics
from services.segmenter.engines import EXEMPLARS_ONLY, Pair
from services.segmenter.postprocessing import all_finite
from services.segmenter.preprocessing import to_model_input
from services.segmenter.queries import QUERIES, check_queries, exemplar_arrays
from services.segmenter.video.engine import (
    ObjectRecall,
    ObjectStart,
    Observation,
    TrackingPolicy,
    VideoEngine,
    VideoTraits,
    create_video,
)
from services.segmenter.video.memory import MemoryReach
from services.segmenter.video.session import SessionOptions, TrackingSession
from services.segmenter.video.settings import VideoSettings
from services.segmenter.video.snapshot import load_snapshot
from services.segmenter.video.stages import VideoStages
from services.segmenter.video.stepping import TrackingRules

# Least and most seconds after which a refused caller is told to come again.
_LEAST_RETRY_S, _MOST_RETRY_S = 0.5, 30.0


class VideoSegmenter:
    """Lives in one event loop. `engine` is loaded; `close` closes it."""

    def __init__(
        self, settings: VideoSettings, engine: VideoEngine, metrics: ReplicaMetrics
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._metrics = metrics
        self._stages = VideoStages(settings, engine, metrics)
        self._traits = self._stages.traits
        self._reach = MemoryReach(
            self._traits.recent_memories,
            self._traits.conditioning_memories,
            self._traits.pointers,
        )
        self._sessions: dict[TrackingSession, int] = {}
        self._reaper: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def model(self) -> ModelInfo:
        """The model that answers."""
        return self._traits.model

    @property
    def sessions(self) -> tuple[TrackingSession, ...]:
        """Those that are open."""
        return tuple(self._sessions)

    def open(
        self,
        queries: Sequence[ConceptQuery] = (),
        options: SessionOptions | None = None,
        state: bytes = b"",
    ) -> TrackingSession:
        """A session that tracks `queries`; exemplars are in pixels of its first frame.

        Args:
            queries: at most `VideoSettings.max_queries`; none where only objects are tracked.
            options: see there.
            state: what `TrackingSession.snapshot` of another gave; `queries` are its own then, and
                these are ignored.

        Raises:
            InvalidRequest: a query, an option or the state is wrong.
            TooLarge: such a session is over the limit on memory even alone.
            Overloaded: there is no place now, or no memory; with a time to come again.
            Unavailable: the replica is shutting down.
        """
        options = options or SessionOptions()
        if self._closing:
            raise Unavailable(Reason.DRAINING, "the replica is shutting down", retry_after_s=1.0)
        rules = self._rules(options)
        snapshot = load_snapshot(state, self._engine, self._reach) if state else None
        if queries and not state:
            check_queries(
                queries, self._traits, self._settings.max_queries, self._settings.max_exemplars
            )
        nbytes = most_bytes(self._traits, rules)
        self._admit(nbytes)
        session = TrackingSession(
            self._stages, self._settings, rules, self._metrics, self._forget, snapshot
        )
        for query in () if state else queries:
            session.add_phrase(query)
        self._sessions[session] = nbytes
        if self._reaper is None:
            self._reaper = asyncio.get_running_loop().create_task(self._reap())
        return session

    async def close(self) -> None:
        """Close all sessions, let go of the model."""
        self._closing = True
        if self._reaper is not None:
            self._reaper.cancel()
        for session in self.sessions:
            await session.close("the replica is shutting down")
        await self._stages.close()
        self._engine.close()

    def check(self) -> None:
        """Raise `Unavailable` if it cannot work any more."""
        self._stages.check()

    def _rules(self, options: SessionOptions) -> TrackingRules:
        settings, policy = self._settings, self._traits.policy
        if options.score_threshold is not None:
            check_share(options.score_threshold, "score_threshold", FieldPath(("score_threshold",)))
            policy = with_threshold(policy, options.score_threshold)
        if options.max_objects < 0:
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                "max_objects must not be negative",
                field=FieldPath(("max_objects",)),
            )
        return TrackingRules(
            policy=policy,
            max_objects=min(options.max_objects or settings.max_objects, settings.max_objects),
            patience=settings.lost_frames,
            live=options.live,
        )

    def _admit(self, nbytes: int) -> None:
        settings = self._settings
        if nbytes > settings.session_memory_bytes:
            raise TooLarge(
                Reason.OPTION_INVALID,
                f"a session of so many objects may come to hold {nbytes} bytes; "
                f"{settings.session_memory_bytes} are allowed",
                field=FieldPath(("max_objects",)),
            )
        if len(self._sessions) >= settings.max_sessions:
            raise Overloaded(
                Reason.OVERLOADED,
                f"all {settings.max_sessions} places for sessions are taken",
                retry_after_s=self._retry_after_s(),
            )
        if sum(self._sessions.values()) + nbytes > settings.session_memory_bytes:
            raise Overloaded(
                Reason.OVERLOADED,
                f"{len(self._sessions)} sessions may come to need the memory of another",
                retry_after_s=self._retry_after_s(),
            )

    def _retry_after_s(self) -> float:
        """When the session that was idle longest would be closed."""
        used = min(session.last_used for session in self._sessions)
        left = used + self._settings.idle_timeout_s - time.monotonic()
        return min(max(left, _LEAST_RETRY_S), _MOST_RETRY_S)

    def _forget(self, session: TrackingSession) -> None:
        self._sessions.pop(session, None)

    async def _reap(self) -> None:
        """Close what is sent no frame."""
        timeout = self._settings.idle_timeout_s
        while True:
            now = time.monotonic()
            idle = [session for session in self._sessions if not session.busy]
            for session in idle:
                if now - session.last_used >= timeout:
                    await session.close(f"the session was sent no frame for {timeout:g} s")
            ends = [session.last_used + timeout for session in self._sessions]
            await asyncio.sleep(max(min(ends, default=now + timeout) - now, timeout / 20))


def with_threshold(policy: TrackingPolicy, score_threshold: float) -> TrackingPolicy:
    """`policy` for a caller's threshold: what it takes to become an object moves along."""
    margin = policy.new_object_score - policy.score_threshold
    return replace(
        policy,
        score_threshold=score_threshold,
        new_object_score=min(score_threshold + margin, max(score_threshold, 0.95)),
    )


def most_bytes(traits: VideoTraits, rules: TrackingRules) -> int:
    """The most that a session may come to hold between frames, and of the frames under way."""
    memories = traits.recent_memories + traits.conditioning_memories
    pointers = 2 * traits.pointers
    an_object = memories * traits.memory_bytes + pointers * traits.pointer_bytes
    return rules.max_objects * an_object + 2 * traits.frame_bytes


def open_video_segmenter(settings: VideoSettings, metrics: ReplicaMetrics) -> VideoSegmenter:
    """The segmenter of `settings`, its model loaded and warmed up. Blocking; in an event loop.

    Raises:
        Whatever the engine raises for a checkpoint that it cannot load, or that does not answer.
    """
    engine = create_video(settings)
    engine.load()
    warm_up(engine)
    return VideoSegmenter(settings, engine, metrics)


def warm_up(engine: VideoEngine) -> None:
    """Look at a plain frame and track one object in it, so that the model is known to answer.

    Raises:
        RuntimeError: what it answers is not finite.
    """
    traits = engine.describe()
    gray = np.full((64, 64, 3), 128, np.uint8)
    (frame,) = engine.encode_frames([to_model_input(gray, traits.image_size)])
    (text,) = engine.encode_texts([EXEMPLARS_ONLY])
    boxes, labels = exemplar_arrays((), 64, 64, QUERIES)
    (raw,) = engine.detect([Pair(frame, text, boxes, labels)])
    mask = np.zeros((64, 64), np.float32)
    mask[16:48, 16:48] = 1
    (begun,) = engine.prompt([ObjectStart(frame, mask)])
    (memory,) = engine.memorize([Observation(frame, begun.logits, True, True)])
    recall = ObjectRecall(frame, ((0, memory),), ((1, begun.pointer),), traits.pointers)
    (tracked,) = engine.track([recall])
    if not (all_finite(raw) and np.isfinite(tracked.logits).all()):
        raise RuntimeError(f"{traits.model.name} answers with numbers that are not finite")
