"""What a stream's sessions are told to track: the opening's prompts, and the changes after it.

A session numbers its queries, and its new objects, in the order in which it is told of them; this
keeps the same count, so that what a session finds has a label and a role.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from limelight.values import (
    AddQuery,
    ConceptQuery,
    DropPhrase,
    ObjectPrompt,
    Plan,
    PromptChange,
    SetObject,
)
from services.domain import ObjectTrack


@dataclass(slots=True)
class TrackedQuery:
    """A query of the sessions: `include` says whether what it finds is wanted or taken away, `own`
    whether it is the client's addition, which no plan touches.
    """

    query: ConceptQuery
    include: bool
    own: bool = False
    active: bool = True

    @property
    def label(self) -> str:
        return self.query.phrase or "exemplar"


class Prompts:
    """The prompts of one stream, over all its sessions."""

    def __init__(self, plan: Plan, objects: Sequence[ObjectPrompt]) -> None:
        self.objects = tuple(objects)
        self.first_queries = plan.queries
        self.changes: list[PromptChange] = []
        """In the order in which sessions are told."""
        self.queries = [
            *(TrackedQuery(query, True) for query in plan.include),
            *(TrackedQuery(query, False) for query in plan.exclude),
        ]
        self.labels = [prompt.label for prompt in objects]

    def query_of(self, track: ObjectTrack) -> TrackedQuery | None:
        """The query that found an object; None for one that was prompted."""
        return self.queries[track.query] if 0 <= track.query < len(self.queries) else None

    def names(self, track: ObjectTrack) -> tuple[str, str]:
        """Label and phrase of an object."""
        query = self.query_of(track)
        if query is not None:
            return query.label, query.query.phrase
        prompt = -1 - track.query
        return (self.labels[prompt] if 0 <= prompt < len(self.labels) else "object"), ""

    @property
    def active(self) -> int:
        """How many queries are tracked now."""
        return sum(query.active for query in self.queries)

    def tracks(self, phrase: str) -> bool:
        """Whether a query with this phrase is tracked now."""
        return any(query.active and query.query.phrase == phrase for query in self.queries)

    def apply(self, change: PromptChange) -> None:
        """A change of the client's."""
        match change.change:
            case AddQuery(query):
                self.queries.append(TrackedQuery(query, True, own=True))
            case DropPhrase(phrase):
                self._drop(phrase)
            case SetObject(prompt) if not prompt.object_id:
                self.labels.append(prompt.label)
        self.changes.append(change)

    def correct(self, change: PromptChange, object_id: int) -> None:
        """A correction of an object that the sessions know as `object_id`."""
        assert isinstance(change.change, SetObject)
        prompt = replace(change.change.prompt, object_id=object_id)
        self.changes.append(PromptChange(SetObject(prompt), change.at_frame))

    def replan(self, plan: Plan, at_frame: int | None) -> None:
        """From `at_frame` on, track what `plan` says instead of what the plan before it said."""
        wanted = [(query, True) for query in plan.include]
        wanted += [(query, False) for query in plan.exclude]
        phrases = {query.phrase for query, _ in wanted}
        kept = set()
        for tracked in self.queries:
            if not tracked.active or tracked.own or not tracked.query.phrase:
                continue
            if tracked.query.phrase in phrases:
                kept.add(tracked.query.phrase)
            else:
                tracked.active = False
                change = DropPhrase(tracked.query.phrase)
                self.changes.append(PromptChange(change, at_frame))
        for query, include in wanted:
            if query.phrase in kept:
                for tracked in self.queries:
                    if tracked.active and not tracked.own and tracked.query.phrase == query.phrase:
                        tracked.include = include
            elif query.phrase:
                self.queries.append(TrackedQuery(query, include))
                self.changes.append(PromptChange(AddQuery(query), at_frame))

    def _drop(self, phrase: str) -> None:
        for tracked in self.queries:
            if tracked.query.phrase == phrase:
                tracked.active = False
