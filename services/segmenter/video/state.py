"""What a session knows between two frames. A frame makes a new state of it, all or nothing."""

from dataclasses import dataclass, replace

from limelight.values import ConceptQuery
from services.segmenter.engines import Embedding
from services.segmenter.video.engine import Logits
from services.segmenter.video.matching import TrackRecord
from services.segmenter.video.memory import MemoryBank


@dataclass(frozen=True, slots=True, eq=False)
class TrackedConcept:
    """A concept that is looked for in every frame.

    Attributes:
        key: its index among all that the session was given.
        query: phrase and exemplars; these are of the frame in which it began.
        prompt: the embedding of both, once that frame was seen; None without exemplars.
    """

    key: int
    query: ConceptQuery
    prompt: Embedding | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TrackedObject:
    """An object: what is counted, what it is remembered by, and its mask in the last frame.

    `bank` belongs to this state; whoever changes it takes a copy.
    """

    record: TrackRecord
    bank: MemoryBank
    mask: Logits

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        look = self.record.look.nbytes if self.record.look else 0
        return self.bank.nbytes + self.mask.nbytes + look


@dataclass(frozen=True, slots=True, eq=False)
class TrackingState:
    """Between two frames.

    Attributes:
        place: frames seen.
        next_id: the next new object's.
        concepts: what is looked for.
        objects: what is tracked.
    """

    place: int = 0
    next_id: int = 1
    concepts: tuple[TrackedConcept, ...] = ()
    objects: tuple[TrackedObject, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        prompts = (concept.prompt for concept in self.concepts)
        return sum(item.nbytes for item in self.objects) + sum(p.nbytes for p in prompts if p)

    def without(self, ids: frozenset[int]) -> "TrackingState":
        """The state without the objects `ids`."""
        kept = tuple(item for item in self.objects if item.record.object_id not in ids)
        return replace(self, objects=kept)
