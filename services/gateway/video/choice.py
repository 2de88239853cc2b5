"""Executing a plan over the frames of a video: which of the tracked objects are told.

What is decided is decided once and then held by an object's id, whatever it looks like later:

- An object of an excluded concept is never told. One of an included concept that has the pixels of
  an excluded one is not told either; both must have been seen to know it, so the first
  `PROBATION` frames of an object decide, by their majority.
- Of two queries' objects that are the same thing when the later one appears, one is told; when that
  one is removed for good, the other takes its id.
- `review` and `select` act on the first frame of a plan in which there is anything to act on. With
  a selection, what appears later is not told; without one it is.
- Over the caller's cap, the best scores that came first are told.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from limelight.values import Plan, Verdict, VerdictKind
from services.domain import FrameTracks, ObjectTrack, Provenance, SegmentedInstance
from services.gateway import execution
from services.gateway.video.prompts import Prompts

PROBATION = 8


@dataclass(frozen=True, slots=True)
class ToldObject:
    """An object of a frame that the client is told of, under its public `number`."""

    number: int
    label: str
    phrase: str
    track: ObjectTrack


@dataclass(slots=True)
class ObjectHistory:
    """What is known of one object of the sessions."""

    wanted: bool
    """Of an included concept, or prompted."""
    free: bool
    """Prompted, or the client's own addition: told whatever the plan selects."""
    twin: int = 0
    """The object that is the same thing and is told instead; 0: none."""
    frames: int = 0
    covered: int = 0
    rejected: bool = False

    @property
    def excluded(self) -> bool:
        return 2 * self.covered > self.frames


@dataclass(slots=True)
class Chooser:
    """Chooses for one stream.

    Args:
        prompts: of the stream.
        plan: the current one.
        max_objects: told at once; 0: no cap.
    """

    prompts: Prompts
    plan: Plan
    max_objects: int = 0
    undecided: bool = True
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    """By public number."""
    seen: dict[int, ObjectHistory] = field(default_factory=dict)
    chosen: set[int] = field(default_factory=set)
    removed: set[int] = field(default_factory=set)
    numbers: dict[int, int] = field(default_factory=dict)
    _last_number: int = 0
    places: set[int] = field(default_factory=set)
    """Ids that hold a place under the cap."""

    def replan(self, plan: Plan) -> None:
        """Decide anew; until there is something to decide on, what was chosen stays."""
        self.plan = plan
        self.undecided = True
        for seen in self.seen.values():
            seen.rejected = False

    def holds(self, frame: FrameTracks) -> bool:
        """Whether any object that the plan chose is visible."""
        return any(track.object_id in self.chosen for track in frame.objects)

    def look(self, frame: FrameTracks) -> list[SegmentedInstance]:
        """Take in what `frame` shows; if a decision is due, the candidates of it, best first."""
        for number in frame.removed:
            self._remove(number)
        for track in frame.objects:
            if track.object_id not in self.seen:
                query = self.prompts.query_of(track)
                free = query is None or query.own
                self.seen[track.object_id] = ObjectHistory(query is None or query.include, free)
        self._exclude(frame)
        self._pair(frame)
        if not self.undecided:
            return []
        return [
            self._instance(track)
            for track in sorted(frame.objects, key=lambda track: (-track.score, track.object_id))
            if self._eligible(track) and not self.seen[track.object_id].free
        ]

    def decide(
        self,
        candidates: Sequence[SegmentedInstance],
        verdicts: Iterable[Verdict],
        width: int,
        height: int,
    ) -> None:
        """Act on the candidates of `look` with what the review said of them."""
        if not candidates:
            return
        self.undecided = False
        by_id = {verdict.id: verdict for verdict in verdicts}
        kept = []
        for item in candidates:
            verdict = by_id.get(item.id)
            rejected = verdict is not None and verdict.kind is VerdictKind.REJECTED
            self.seen[item.id].rejected = rejected
            if verdict is not None:
                self.verdicts[item.id] = verdict
            if not rejected:
                kept.append(item)
        chosen = execution.selected(self.plan.select, kept, width, height)
        self.chosen = {item.id for item in chosen}
        self.places &= self.chosen

    def told(self, frame: FrameTracks) -> tuple[list[ToldObject], int]:
        """The objects of `frame` to tell, and how many are left out by the cap."""
        wanted = [track for track in frame.objects if self._passes(track)]
        over = 0
        if self.max_objects:
            wanted, over = self._capped(wanted)
        told = []
        for track in wanted:
            label, phrase = self.prompts.names(track)
            told.append(ToldObject(self._number(track.object_id), label, phrase, track))
        return sorted(told, key=lambda item: item.number), over

    def verdict_of(self, number: int) -> VerdictKind:
        """What the review said of the object that is told as `number`."""
        # Few were reviewed, however many were told in a long video.
        for object_id, verdict in self.verdicts.items():
            if self.numbers.get(object_id) == number:
                return verdict.kind
        return VerdictKind.UNREVIEWED

    def session_ids(self, number: int) -> list[int]:
        """The sessions' ids of the object that was told as `number`, the one told first."""
        ids = [object_id for object_id, known in self.numbers.items() if known == number]
        return [*ids, *(other for other, seen in self.seen.items() if seen.twin in ids)]

    def forget(self, object_ids: Iterable[int]) -> None:
        """Tell nothing of these any more."""
        self.removed.update(object_ids)

    def _exclude(self, frame: FrameTracks) -> None:
        against = [t for t in frame.objects if not self.seen[t.object_id].wanted]
        young = [
            track
            for track in frame.objects
            if (seen := self.seen[track.object_id]).wanted and seen.frames < PROBATION
        ]
        covered: set[int] = set()
        if against and young:
            covered = execution.covered(
                [self._instance(track) for track in young],
                [self._instance(track) for track in against],
            )
        for track in young:
            seen = self.seen[track.object_id]
            seen.frames += 1
            seen.covered += track.object_id in covered and not seen.free

    def _pair(self, frame: FrameTracks) -> None:
        """Find the twin of each object that is new in this frame."""
        new = [
            track
            for track in frame.objects
            if (seen := self.seen[track.object_id]).frames == 1 and seen.wanted and not seen.free
        ]
        if not new:
            return
        fresh = {track.object_id for track in new}
        older = [
            self._instance(track)
            for track in frame.objects
            if track.object_id not in fresh and self._eligible(track)
        ]
        for track in sorted(new, key=lambda track: (-track.score, track.object_id)):
            item = self._instance(track)
            twin = next((other for other in older if execution.same_thing(item, other)), None)
            if twin is None:
                older.append(item)
            else:
                self.seen[track.object_id].twin = twin.id

    def _eligible(self, track: ObjectTrack) -> bool:
        """Whether an object may be told, if the plan chooses it."""
        seen = self.seen[track.object_id]
        return (
            seen.wanted
            and not seen.twin
            and not seen.excluded
            and track.object_id not in self.removed
        )

    def _passes(self, track: ObjectTrack) -> bool:
        if not self._eligible(track):
            return False
        seen = self.seen[track.object_id]
        if seen.free or track.object_id in self.chosen:
            return True
        return not seen.rejected and self.plan.select is None and not self.undecided

    def _capped(self, wanted: list[ObjectTrack]) -> tuple[list[ObjectTrack], int]:
        for track in sorted(wanted, key=lambda track: (-track.score, track.object_id)):
            if len(self.places) < self.max_objects:
                self.places.add(track.object_id)
        kept = [track for track in wanted if track.object_id in self.places]
        return kept, len(wanted) - len(kept)

    def _remove(self, object_id: int) -> None:
        """An object will not come again: its place is free, and its id its twin's."""
        self.places.discard(object_id)
        heir = next((other for other, seen in self.seen.items() if seen.twin == object_id), None)
        if heir is not None and object_id not in self.removed:
            self.seen[heir].twin = 0
            for other in self.seen.values():
                if other.twin == object_id:
                    other.twin = heir
            if object_id in self.chosen:
                self.chosen.add(heir)
            if object_id in self.numbers:
                self.numbers.setdefault(heir, self.numbers[object_id])
        self.seen.pop(object_id, None)
        self.chosen.discard(object_id)

    def _number(self, object_id: int) -> int:
        if object_id not in self.numbers:
            # One and the same for twins, so that the last is the largest.
            self._last_number = 1 + (self._last_number or max(self.numbers.values(), default=0))
            self.numbers[object_id] = self._last_number
        return self.numbers[object_id]

    def _instance(self, track: ObjectTrack) -> SegmentedInstance:
        label, phrase = self.prompts.names(track)
        return SegmentedInstance(
            id=track.object_id,
            label=label,
            phrase=phrase,
            score=track.score,
            presence=track.presence,
            box=track.box,
            mask=track.mask,
            area=track.area,
            provenance=Provenance(query=track.query),
        )
