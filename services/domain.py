"""What the services say to each other beside the values of `limelight.values`.

Frozen dataclasses; protobuf stops at the edges (`services.rpc.convert`) and tensors stop at the
engines. Coordinates are those of `limelight.values`.
"""

from dataclasses import dataclass, field

from limelight.values import (
    RLE,
    Box,
    ConceptQuery,
    ModelInfo,
    ObjectPrompt,
    Plan,
    PromptChange,
    TimeRange,
    Verdict,
    VerdictKind,
)


@dataclass(frozen=True, slots=True)
class Detection:
    """One instance the segmenter found for one query: `box` is the tight box of `mask`."""

    score: float
    box: Box
    mask: RLE
    area: int


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The segmenter's answer to one query; `presence`: how probably the concept is there at all."""

    presence: float
    detections: tuple[Detection, ...]


@dataclass(frozen=True, slots=True)
class SegmentedImage:
    """The segmenter's answer for one image: one result a query, in the order asked."""

    width: int
    height: int
    results: tuple[QueryResult, ...]
    model: ModelInfo
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing put before the planner for review."""

    id: int
    phrase: str
    mask: RLE


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an instance came from: the index of its query in `Plan.queries`, its review."""

    query: int
    verdict: VerdictKind = VerdictKind.UNREVIEWED
    verdict_reason: str = ""


@dataclass(frozen=True, slots=True)
class SegmentedInstance:
    """One answered thing. `id` counts from 1 within an answer; `score` already holds presence."""

    id: int
    label: str
    phrase: str
    score: float
    presence: float
    box: Box
    mask: RLE
    area: int
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Planned:
    """The planner's answer: the plan, who made it, and what it took."""

    plan: Plan
    model: ModelInfo
    cached: bool = False
    attempts: int = 1
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reviewed:
    """The planner's review: one verdict a candidate, in the order asked."""

    verdicts: tuple[Verdict, ...]
    model: ModelInfo
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrackOpening:
    """What opens a tracking session.

    Attributes:
        queries: the concepts: `include` of the plan, then `exclude`.
        objects: objects of the first frame besides.
        score_threshold: 0 to 1; instances below it are not taken up.
        max_objects: tracked at once; 0: the server's limit.
        media_header: as `services.codecs.videos` writes it; empty for live frames.
        stride: every so many frames is tracked.
        max_side: longer side of the frames, pixels; 0: as they are.
        range: the part that is tracked; None: all.
        live: frames are answered at once, without waiting for what later ones tell.
        state: what another session of this stream knew; empty for a new one.
        next_frame: frames before this index are not answered.
    """

    queries: tuple[ConceptQuery, ...] = ()
    objects: tuple[ObjectPrompt, ...] = ()
    score_threshold: float = 0.5
    max_objects: int = 0
    media_header: bytes = b""
    stride: int = 1
    max_side: int = 0
    range: TimeRange | None = None
    live: bool = False
    state: bytes = b""
    next_frame: int = 0


@dataclass(frozen=True, slots=True)
class PacketGroup:
    """Packets of a video up to a key frame, as `services.codecs.videos` writes them; the
    `index`-th of the stream, from 0.
    """

    content: bytes
    index: int


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One live frame: an image file, its index among those sent, its time in seconds."""

    content: bytes
    index: int
    timestamp_s: float


@dataclass(frozen=True, slots=True)
class MediaEnd:
    """The end of the video or of the live frames."""


TrackStep = PacketGroup | EncodedFrame | PromptChange | MediaEnd


@dataclass(frozen=True, slots=True)
class ObjectTrack:
    """One object in one frame.

    Attributes:
        object_id: in the session, from 1.
        query: index of its query in the opening and the changes after it; -1 - n for the object of
            the n-th prompt for a new one.
        score: 0 to 1.
        presence: 0 to 1, of the concept in the frame; 1 for a prompted object.
        box: the tight box of `mask`, which has `area` pixels.
    """

    object_id: int
    query: int
    score: float
    presence: float
    box: Box
    mask: RLE
    area: int


@dataclass(frozen=True, slots=True)
class FrameTracks:
    """What one frame shows: the visible objects, ids that will not come again, and how many things
    were found beyond the cap on objects.
    """

    index: int
    timestamp_s: float
    width: int
    height: int
    objects: tuple[ObjectTrack, ...] = ()
    removed: tuple[int, ...] = ()
    over_cap: int = 0
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionState:
    """What a session elsewhere needs to go on.

    Attributes:
        next_frame: the next frame that it answers.
        group: the group in which that frame's packets begin.
        content: the session's own bytes.
        changes: how many changes of the stream they hold, applied or waiting for their frame.
    """

    next_frame: int
    group: int
    content: bytes
    changes: int = 0


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """What a tracker writes into `SessionState.content`.

    Attributes:
        session: the model's session, as bytes.
        waiting: changes that wait for their frame.
        times: seconds of the frames that were taken and not answered yet, by index.
        changes: that the stream's sessions were sent so far.
    """

    session: bytes
    waiting: tuple[PromptChange, ...] = ()
    times: dict[int, float] = field(default_factory=dict)
    changes: int = 0


@dataclass(frozen=True, slots=True)
class TrackOpened:
    """The session is open, and this model answers."""

    model: ModelInfo


TrackEvent = TrackOpened | FrameTracks | SessionState
