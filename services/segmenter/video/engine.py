"""The seam to a video model: what a video engine is, and the registry that finds one by name.

`tracking` drives an engine from worker threads. An engine keeps nothing between calls: what an
object is remembered by is handed out as `Embedding`s, held by its session (`memory`), and handed
back with the next frame. So objects and sessions can be batched at will, and a session's memory is
what its bank holds. Which detection is which object is decided outside, in `association`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from services.replica.engines import open_engine
from services.segmenter.engines import Embedding, Pair, RawDetections, SegmenterTraits

if TYPE_CHECKING:
    from services.segmenter.video.settings import VideoSettings

# What makes each engine, by the name that the setting `engine` takes.
VIDEO_ENGINES = {
    "transformers": "services.segmenter.engines.transformers_video:TransformersVideoEngine",
    "fake": "services.segmenter.engines.fake_video:FakeVideoEngine",
}

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TrackingPolicy:
    """How detections and tracked masks become objects, after transformers' `Sam3VideoConfig`.

    Attributes:
        score_threshold: detections below it are ignored.
        nms_threshold: of two detections of a phrase whose IoU is above it, the lower goes. 0: none.
        detection_match_iou: a detection that overlaps an object by this much is not a new one.
        track_match_iou: an object that no detection overlaps by this much is unmatched.
        new_object_score: the least score of a detection that becomes an object.
        recondition_from_track: whether an object is confirmed with its own mask (else with the
            detection's).
        recondition_every: frames between confirmations. 0: never.
        recondition_score: least score of a detection, and logit of an object, to confirm.
        recondition_iou: least overlap of the two.
        hotstart_delay: frames for which an answer is held back where removal is wanted.
        hotstart_unmatched: unmatched frames after which a new object is removed.
        hotstart_duplicate: frames on the same detection as an older object, likewise.
        suppress_unmatched_always: hide objects unmatched for long also after the hot start.
        keep_alive_initial: what an object's keep-alive counter starts with,
        keep_alive_max: its most,
        keep_alive_min: and its least.
        keep_alive_counts_empty: whether an empty mask lowers the counter.
        occlusion_iou: of two objects of a phrase that overlap by this much, the one occluded last
            is hidden. 0: none.
        fill_area: holes and specks of up to this many pixels of the model's masks go. 0: none.
        follow_motion: whether a detection is one object's at most, by motion as well as by masks
            (`identities`); `Sam3VideoModel` has no such thing.
        motion_frames: frames after which an object that nothing showed is found again only where
            its tracked mask is, since where it went nobody knows.
    """

    score_threshold: float = 0.5
    nms_threshold: float = 0.1
    detection_match_iou: float = 0.1
    track_match_iou: float = 0.5
    new_object_score: float = 0.7
    recondition_from_track: bool = True
    recondition_every: int = 16
    recondition_score: float = 0.8
    recondition_iou: float = 0.8
    hotstart_delay: int = 15
    hotstart_unmatched: int = 8
    hotstart_duplicate: int = 8
    suppress_unmatched_always: bool = False
    keep_alive_initial: int = 30
    keep_alive_max: int = 30
    keep_alive_min: int = -1
    keep_alive_counts_empty: bool = False
    occlusion_iou: float = 0.7
    fill_area: int = 16
    follow_motion: bool = False
    motion_frames: int = 30


@dataclass(frozen=True, slots=True)
class VideoTraits(SegmenterTraits):
    """What there is to know of a loaded video model, beside what an image model has.

    Attributes:
        policy: how its detections and tracks are joined.
        recent_memories: latest frames whose memory its attention reads.
        conditioning_memories: frames with a prompt or a confirmation whose memory it reads.
        pointers: latest frames whose object pointer it reads, the current one counted.
        frame_bytes: what an encoded frame holds; 0 if unknown.
        memory_bytes: what one memory of one object holds.
        pointer_bytes: what one pointer holds.
    """

    policy: TrackingPolicy
    recent_memories: int
    conditioning_memories: int
    pointers: int
    frame_bytes: int
    memory_bytes: int
    pointer_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Clicks:
    """Points on one object, a box being two of them.

    `points` float32 (n, 2), x and y as shares of the frame; `labels` int64 (n,): 1 on the object,
    0 beside it, 2 and 3 a box's upper left and lower right corner, as SAM numbers them.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ObjectRecall:
    """One object to be found again in `frame`.

    Attributes:
        frame: the encoded frame.
        memories: (frames ago, memory); 0 frames ago marks a conditioning frame, whenever it was.
        pointers: (frames ago, pointer).
        horizon: frames ago that the pointers' position encoding is scaled to, plus one.
        clicks: points by which the caller corrects the object here; None without any.
    """

    frame: Embedding
    memories: tuple[tuple[int, Embedding], ...]
    pointers: tuple[tuple[int, Embedding], ...]
    horizon: int
    clicks: Clicks | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ObjectStart:
    """One object to be begun in `frame`: by a mask, float32 (h, w) of 0 to 1, or by clicks."""

    frame: Embedding
    mask: Logits | None = None
    clicks: Clicks | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ObjectMask:
    """What the model says of one object in one frame.

    Attributes:
        logits: float32 (h, w), the mask at the model's own resolution.
        score: logit that the object is visible.
        pointer: what the object looks like, for later frames.
    """

    logits: Logits
    score: float
    pointer: Embedding


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One object's mask in `frame`, to become a memory.

    Attributes:
        frame: the encoded frame.
        logits: float32 (h, w), the mask.
        visible: whether the object is there.
        hard: whether its outline is taken as certain: the logits' sign rather than their sigmoid.
    """

    frame: Embedding
    logits: Logits
    visible: bool
    hard: bool


class VideoEngine(Protocol):
    """A SAM 3 for video. `encode_frames` runs in one worker thread, texts, exemplars and `detect`
    in another, `track`, `prompt` and `memorize` in one each; all may run at once.
    """

    def load(self) -> None:
        """Read the weights. Called once, before anything else."""

    def close(self) -> None:
        """Let go of them."""

    def describe(self) -> VideoTraits:
        """What was loaded."""

    def encode_frames(self, images: Sequence[Any]) -> list[Embedding]:
        """One embedding a frame; each is a float32 tensor (3, S, S) from `preprocessing`."""

    def encode_texts(self, phrases: Sequence[str]) -> list[Embedding]:
        """One embedding a phrase, each of at most `max_tokens` tokens."""

    def encode_exemplars(self, pairs: Sequence[Pair]) -> list[Embedding]:
        """One embedding a pair: its phrase together with its exemplar boxes, read in its frame.

        It takes a text's place in a `Pair` of any other frame.
        """

    def detect(self, pairs: Sequence[Pair]) -> list[RawDetections]:
        """The raw detections of each pair of frame and text; boxes are in the text's embedding."""

    def track(self, recalls: Sequence[ObjectRecall]) -> list[ObjectMask]:
        """Each object's mask in its frame."""

    def prompt(self, prompts: Sequence[ObjectStart]) -> list[ObjectMask]:
        """Each new object's mask in its frame."""

    def memorize(self, observations: Sequence[Observation]) -> list[Embedding]:
        """A memory an observation."""

    def dump(self, embedding: Embedding) -> bytes:
        """A text, memory or pointer as bytes; safe to call from any thread."""

    def restore(self, content: bytes) -> Embedding:
        """What `dump` of an engine with the same weights wrote.

        Raises:
            ValueError: these are no such bytes.
        """


def create_video(settings: "VideoSettings") -> VideoEngine:
    """The engine that `settings.engine` names, not loaded yet."""
    engine: VideoEngine = open_engine(settings.engine, VIDEO_ENGINES, settings)
    return engine
