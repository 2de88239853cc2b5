"""What a session remembers of one object, as many frames as the model's attention can reach.

A frame on which the object was prompted, or confirmed by a detection, is a conditioning frame; the
others are recent for a while. Bounded whatever the clip's length: stock transformers keeps every
frame and every conditioning pointer for ever. Up to `MemoryReach.pointers` conditioning frames the
choice is the one that `Sam3VideoModel` makes; beyond, the first and the latest pointers stay.
"""

from dataclasses import dataclass

from services.segmenter.engines import Embedding


@dataclass(frozen=True, slots=True)
class MemoryReach:
    """How far attention reaches, see `VideoTraits`."""

    recent: int
    conditioning: int
    pointers: int


@dataclass(frozen=True, slots=True, eq=False)
class RememberedFrame:
    """One frame's memory and pointer; `memory` is None once only the pointer can be read."""

    memory: Embedding | None
    pointer: Embedding

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.pointer.nbytes + (self.memory.nbytes if self.memory else 0)


class MemoryBank:
    """The frames that one object is recognized by, by their place in the session."""

    def __init__(self, reach: MemoryReach) -> None:
        self._reach = reach
        self._conditioning: dict[int, RememberedFrame] = {}
        self._recent: dict[int, RememberedFrame] = {}

    def copy(self) -> "MemoryBank":
        """A bank that changes apart from this one; the tensors are shared."""
        bank = MemoryBank(self._reach)
        bank._conditioning = dict(self._conditioning)
        bank._recent = dict(self._recent)
        return bank

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        frames = (*self._conditioning.values(), *self._recent.values())
        return sum(frame.nbytes for frame in frames)

    @property
    def empty(self) -> bool:
        """Whether there is no memory to find the object by."""
        frames = (*self._conditioning.values(), *self._recent.values())
        return not any(frame.memory for frame in frames)

    def anchors(
        self, pointers: int, *, memory: bool
    ) -> list[tuple[int, Embedding | None, Embedding]]:
        """The place and pointer of the latest `pointers` conditioning frames, oldest first, and of
        the last of them the memory, if `memory`.
        """
        order = sorted(self._conditioning)[-pointers:]
        return [
            (
                at,
                self._conditioning[at].memory if memory and at == order[-1] else None,
                self._conditioning[at].pointer,
            )
            for at in order
        ]

    def add(
        self, at: int, memory: Embedding | None, pointer: Embedding, *, conditioning: bool
    ) -> None:
        """Remember frame `at`, and forget what no later frame can read."""
        frames = self._conditioning if conditioning else self._recent
        frames[at] = RememberedFrame(memory, pointer)
        self._forget(at + 1)

    def recall(
        self, at: int
    ) -> tuple[tuple[tuple[int, Embedding], ...], tuple[tuple[int, Embedding], ...]]:
        """Memories and pointers to find the object by in frame `at`, see `ObjectRecall`."""
        known = [t for t in sorted(self._conditioning) if self._conditioning[t].memory]
        read = known[-self._reach.conditioning :]
        memories = [(0, self._conditioning[t].memory) for t in read]
        for ago in range(self._reach.recent, 0, -1):
            frame = self._recent.get(at - ago)
            if frame is None and at - ago not in read:
                frame = self._conditioning.get(at - ago)
            if frame is not None:
                memories.append((ago, frame.memory))
        pointers = [(at - t, frame.pointer) for t, frame in self._conditioning.items()]
        for ago in range(1, self._reach.pointers):
            frame = self._recent.get(at - ago)
            if frame is not None:
                pointers.append((ago, frame.pointer))
        return tuple((ago, memory) for ago, memory in memories if memory), tuple(pointers)

    def _forget(self, at: int) -> None:
        """Drop what frame `at` and those after it cannot read."""
        for t in [t for t in self._recent if at - t >= self._reach.pointers]:
            del self._recent[t]
        for t in [t for t in self._recent if at - t > self._reach.recent]:
            self._recent[t] = RememberedFrame(None, self._recent[t].pointer)
        order = sorted(self._conditioning)
        for t in order[1 : max(1, len(order) - self._reach.pointers + 1)]:
            del self._conditioning[t]
        known = [t for t in order if t in self._conditioning and self._conditioning[t].memory]
        for t in known[: -self._reach.conditioning]:
            if at - t > self._reach.recent:
                self._conditioning[t] = RememberedFrame(None, self._conditioning[t].pointer)
