"""Instructions about a scene, each with the plan a perfect planner gives and its true answer.

`InstructionWriter.generate` gives text (what a user types), plan (what the planner is trained to
answer) and truth (what the whole service is measured against), in the seven families of the world's
definition. The plans are canonical, so that a small model can learn them:

- the image is read only where the text cannot say what is meant: categories, subjects, "all but
  X", what spoils, what is dearest; there the present concepts are listed in vocabulary order;
- "all but X" lists all that is there, X too, and excludes X: nothing depends on leaving a name out
  of a list, which small models find hard, and X is copied from where the request names it;
- a hint ("something to read") lists every concept it fits, present or not: that needs no look at
  the image, and the segmenter finds out what is there;
- named things go in as phrases even when absent, for the same reason;
- an empty `include`, with a reason, answers what nothing in the image fits.

Scenes in which the truth would hinge on near ties in place or size, or on a "don't care" instance
that a selection would have to rank, give no instruction. Nor does what the vocabulary lacks:
without hints, prices or perishables nothing is asked about them, and a category that is itself the
name of a thing (COCO's "person") is asked for by that name alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np

from limelight.values import ConceptQuery, Plan, PlanOutcome, SelectBy, Selection
from services.planner.calls import MAX_QUERIES
from training.world.execution import sort_key
from training.world.phrases import PhraseBook
from training.world.scenes import Scene
from training.world.vocabulary import Concept, Vocabulary
from training.world.wording import (
    CategoryWords,
    article,
    category_phrase,
    category_words,
    gibberish,
    hinted,
    joined,
    noun_phrase,
    pick,
    reference,
    request,
    sample,
    typed,
    weighted,
    words,
)

NOTHING_FITS = "Nothing here fits."
NOTHING_ASKED = "That names no thing."

# Below these gaps two instances count as tied: of the image's side, and as a ratio of areas.
_PLACE_GAP = 0.04
_AREA_RATIO = 1.2

_SELECTIONS: Mapping[SelectBy, float] = {
    SelectBy.LEFTMOST: 0.19,
    SelectBy.RIGHTMOST: 0.19,
    SelectBy.TOPMOST: 0.13,
    SelectBy.BOTTOMMOST: 0.13,
    SelectBy.LARGEST: 0.16,
    SelectBy.SMALLEST: 0.16,
    SelectBy.NEAREST_CENTER: 0.04,
}


class Family(StrEnum):
    """The kinds of instruction of the world's definition."""

    PHRASE = "phrase"
    CATEGORY = "category"
    SUBJECTS = "subjects"
    REFERENTIAL = "referential"
    SET = "set"
    INDIRECT = "indirect"
    ABSENT = "absent"


@dataclass(frozen=True)
class Instruction:
    """What a user asks of a scene.

    Attributes:
        family: its kind.
        text: as typed.
        plan: the canonical plan; executed on the true masks it gives exactly `truth`.
        truth: indices into the scene's instances, never "don't care" ones.
    """

    family: Family
    text: str
    plan: Plan
    truth: frozenset[int]


@dataclass(frozen=True)
class _Draft:
    text: str
    plan: Plan
    truth: frozenset[int]


@dataclass(frozen=True)
class _View:
    """What an instruction needs to know of a scene."""

    scene: Scene
    vocabulary: Vocabulary

    @cached_property
    def present(self) -> tuple[Concept, ...]:
        """The concepts with an instance that counts, in vocabulary order."""
        seen = {instance.concept.index for instance in self.scene.wanted}
        return tuple(self.vocabulary.concepts[index] for index in sorted(seen))

    def of_category(self, category: str) -> tuple[Concept, ...]:
        return tuple(concept for concept in self.present if concept.category == category)

    def instances_of(self, concepts: Sequence[Concept]) -> frozenset[int]:
        kinds = {concept.index for concept in concepts}
        return frozenset(
            index
            for index, instance in enumerate(self.scene.instances)
            if not instance.dont_care and instance.concept.index in kinds
        )

    def hidden(self, concerns: Callable[[Concept], bool]) -> bool:
        """Whether a "don't care" instance is of a concept that the truth would hinge on."""
        return any(i.dont_care and concerns(i.concept) for i in self.scene.instances)

    def key(self, index: int, by: SelectBy) -> float:
        return sort_key(self.scene.instances[index], self.scene.size, by)

    def tied(self, first: int, second: int, by: SelectBy) -> bool:
        a, b = self.key(first, by), self.key(second, by)
        if by in (SelectBy.LARGEST, SelectBy.SMALLEST):
            return max(abs(a), abs(b)) < _AREA_RATIO * min(abs(a), abs(b))
        width, height = self.scene.size
        side = height if by in (SelectBy.TOPMOST, SelectBy.BOTTOMMOST) else width
        return abs(a - b) < _PLACE_GAP * side


@dataclass(frozen=True)
class InstructionWriter:
    """Writes instructions in the words of one vocabulary: sticker world's, or a dataset's."""

    vocabulary: Vocabulary

    @cached_property
    def phrases(self) -> PhraseBook:
        """What the vocabulary's phrases mean."""
        return PhraseBook(self.vocabulary)

    @cached_property
    def hints(self) -> Mapping[str, tuple[Concept, ...]]:
        """The concepts that share each hint, in vocabulary order."""
        hints: dict[str, tuple[Concept, ...]] = {}
        for concept in self.vocabulary.concepts:
            if concept.hint:
                hints[concept.hint] = (*hints.get(concept.hint, ()), concept)
        return hints

    @cached_property
    def categories(self) -> Mapping[str, CategoryWords]:
        """The categories that are asked for, in vocabulary order, and what they are called."""
        named = {category: category_words(category) for category in self.vocabulary.by_category}
        return {
            category: called
            for category, called in named.items()
            if called is not None
            and not any(map(self.phrases.matching_concepts, (called.singular, *called.whole)))
        }

    @cached_property
    def shared_heads(self) -> tuple[str, ...]:
        """Head nouns of several concepts that one word more tells apart ("red apple")."""
        pairs = [c.name.split() for c in self.vocabulary.concepts if len(c.name.split()) == 2]
        heads = dict.fromkeys(head for _, head in pairs)
        several = {head: self.phrases.matching_concepts(head) for head in heads}
        return tuple(
            head
            for head, meant in several.items()
            if 1 < len(meant) == sum(head == other for _, other in pairs)
        )

    def generate(
        self, scene: Scene, rng: np.random.Generator, family: Family | None = None
    ) -> Instruction | None:
        """An instruction about `scene`, or None where this draw has no sound truth.

        Args:
            scene: any scene with concepts of this vocabulary.
            rng: source of all choices.
            family: its kind; drawn evenly if left out.
        """
        family = pick(rng, tuple(Family)) if family is None else family
        writers: Mapping[Family, Callable[[_View, np.random.Generator], _Draft | None]] = {
            Family.PHRASE: self._phrase,
            Family.CATEGORY: self._category,
            Family.SUBJECTS: self._subjects,
            Family.REFERENTIAL: self._referential,
            Family.SET: self._set,
            Family.INDIRECT: self._indirect,
            Family.ABSENT: self._absent,
        }
        draft = writers[family](_View(scene, self.vocabulary), rng)
        if draft is None or len(draft.plan.queries) > MAX_QUERIES:
            return None
        return Instruction(family, typed(draft.text, rng), draft.plan, draft.truth)

    def everything(self, scene: Scene, rng: np.random.Generator) -> Instruction | None:
        """The request for all there is. Not a family, but what reading an image is."""
        view = _View(scene, self.vocabulary)
        if not 1 <= len(view.present) <= MAX_QUERIES:
            return None
        text = typed(request(pick(rng, self._things("everything")), rng), rng)
        truth = view.instances_of(view.present)
        return Instruction(Family.SET, text, _plan(view.present), truth)

    def _things(self, name: str) -> list[Any]:
        """Words for things in general; only drawn ones are called stickers."""
        drawn = any(concept.emoji for concept in self.vocabulary.concepts)
        return [called for called in words(name) if drawn or "sticker" not in called]

    def _phrase(self, view: _View, rng: np.random.Generator) -> _Draft | None:
        if not view.present:
            return None
        count = weighted(rng, {1: 0.5, 2: 0.35, 3: 0.15})
        named: dict[str, str] = {}
        for position in range(count):
            there = position == 0 or rng.random() < 0.75
            concept = pick(rng, view.present if there else self.vocabulary.concepts)
            singular, plural = self._named(concept, rng)
            named.setdefault(singular, noun_phrase(singular, plural, rng))
        kinds = frozenset().union(*map(self.phrases.matching_concepts, named))
        truth = view.instances_of([self.vocabulary.concepts[index] for index in kinds])
        if not truth:
            return None
        nouns = list(named.values())
        rng.shuffle(nouns)
        order = sorted(named, key=lambda singular: nouns.index(named[singular]))
        return _Draft(request(joined(nouns, rng), rng), _phrases(order), truth)

    def _category(self, view: _View, rng: np.random.Generator) -> _Draft | None:
        categories = tuple(self.categories)
        if not categories:
            return None
        there = tuple(name for name in categories if view.of_category(name))
        category = pick(rng, there if there and rng.random() < 0.85 else categories)
        if view.hidden(lambda concept: concept.category == category):
            return None
        fitting = view.of_category(category)
        text = request(category_phrase(self.categories[category], rng), rng)
        return _Draft(text, _plan(fitting), view.instances_of(fitting))

    def _subjects(self, view: _View, rng: np.random.Generator) -> _Draft | None:
        text = pick(rng, words("subject_requests"))
        if "{np}" in text:
            text = request(pick(rng, words("subjects")), rng)
        if view.hidden(lambda concept: concept.subject):
            return None
        subjects = tuple(concept for concept in view.present if concept.subject)
        if subjects:
            return _Draft(text, _plan(subjects), view.instances_of(subjects))
        return self._selected(view, text, view.present, Selection(SelectBy.LARGEST))

    def _referential(self, view: _View, rng: np.random.Generator) -> _Draft | None:
        if not view.present:
            return None
        among = weighted(rng, {"noun": 0.78, "category": 0.15, "anything": 0.07})
        if among == "anything":
            singular, plural = pick(rng, self._things("things"))
            phrases, concepts = _names(view.present), view.present
        elif among == "category":
            if (category := self._category_there(view, rng)) is None:
                return None
            singular, plural = self.categories[category].singular, self.categories[category].plural
            concepts = view.of_category(category)
            phrases = _names(concepts)
        else:
            # A noun with several instances is the interesting case; one is still fair.
            several = tuple(c for c in view.present if len(view.instances_of((c,))) > 1)
            pool = several if several and rng.random() < 0.85 else view.present
            singular, plural = self._named(pick(rng, pool), rng)
            phrases = (singular,)
            meant = self.phrases.matching_concepts(singular)
            concepts = tuple(self.vocabulary.concepts[index] for index in sorted(meant))
        selection = _random_selection(rng, len(view.instances_of(concepts)))
        text = request(reference(singular, plural, selection, rng), rng)
        return self._selected(view, text, concepts, selection, phrases)

    def _set(self, view: _View, rng: np.random.Generator) -> _Draft | None:
        kind = weighted(rng, {"all but": 0.55, "category but": 0.35, "kind but": 0.1})
        if kind == "kind but":
            return self._kind_but(view, rng)
        if not view.present:
            return None
        if kind == "all but":
            whole, text = view.present, pick(rng, self._things("everything"))
        else:
            if (category := self._category_there(view, rng)) is None:
                return None
            if view.hidden(lambda concept: concept.category == category):
                return None
            whole = view.of_category(category)
            text = category_phrase(self.categories[category], rng)
        excepted = ""  # the one thing's name, where it is one
        if kind == "all but" and rng.random() < 0.2:
            if not self.categories:
                return None
            category = pick(rng, tuple(self.categories))
            named = self.categories[category]
            without, gone = category_phrase(named, rng), view.of_category(category)
            excepted = "" if named.mass else named.singular
        else:
            gone = sample(rng, whole, 1 if rng.random() < 0.75 else 2)
            without = joined([noun_phrase(c.name, c.plural, rng) for c in gone], rng)
            excepted = gone[0].name if len(gone) == 1 else ""
        rest = tuple(concept for concept in whole if concept not in gone)
        if not rest and rng.random() < 0.7:  # refusals would else be most of a small scene's
            return None
        phrase = f"{text} {pick(rng, words('but'))} {without}"
        if excepted and kind == "all but" and rng.random() < 0.15:
            phrase = f"{pick(rng, words('all_that'))} not {article(excepted)} {excepted}"
        plan = _plan(whole)
        if gone:
            plan = Plan(plan.include, _plan(gone).include)
        return _Draft(request(phrase, rng), plan, view.instances_of(rest))

    def _category_there(self, view: _View, rng: np.random.Generator) -> str | None:
        there = tuple(name for name in self.categories if view.of_category(name))
        return pick(rng, there) if there else None

    def _kind_but(self, view: _View, rng: np.random.Generator) -> _Draft | None:
        """The apples but not the green ones: the head noun, less one of its concepts."""
        if not self.shared_heads:
            return None
        head = pick(rng, self.shared_heads)
        kinds = [self.vocabulary.concepts[i] for i in sorted(self.phrases.matching_concepts(head))]
        gone = pick(rng, kinds)
        rest = tuple(kind for kind in kinds if kind is not gone)
        if not view.instances_of(rest):
            return None
        color, plural = gone.name.split()[0], gone.plural.split()[-1]
        whole = pick(rng, (f"the {plural}", f"all the {plural}", f"all {plural}", f"every {head}"))
        without = pick(rng, (f"the {color} ones", f"the {color} one", f"the {gone.name}"))
        text = request(f"{whole} {pick(rng, words('but'))} {without}", rng)
        plan = Plan((ConceptQuery(head),), (ConceptQuery(gone.name),))
        return _Draft(text, plan, view.instances_of(rest))

    def _indirect(self, view: _View, rng: np.random.Generator) -> _Draft | None:
        kind = weighted(rng, {"hint": 0.5, "spoils": 0.2, "price": 0.3})
        if kind == "spoils":
            known = any(concept.perishable for concept in self.vocabulary.concepts)
            if not known or view.hidden(lambda concept: concept.perishable):
                return None
            fitting = tuple(concept for concept in view.present if concept.perishable)
            if not fitting and rng.random() < 0.6:
                return None
            text = pick(rng, words("spoils"))
            return _Draft(text, _plan(fitting), view.instances_of(fitting))
        if kind == "price":
            return self._dearest(view, rng)
        there = tuple(
            hint
            for hint, concepts in self.hints.items()
            if any(concept in view.present for concept in concepts)
        )
        if not self.hints or (not there and rng.random() < 0.7):
            return None
        hint = pick(rng, there or tuple(self.hints))
        concepts = self.hints[hint]
        return _Draft(hinted(hint, rng), _plan(concepts), view.instances_of(concepts))

    def _dearest(self, view: _View, rng: np.random.Generator) -> _Draft | None:
        if all(concept.price is None for concept in self.vocabulary.concepts):
            return None
        priced = [concept for concept in view.present if concept.price is not None]
        top = max((concept.price or 0.0 for concept in priced), default=0.0)
        if view.hidden(lambda concept: (concept.price or 0.0) > top):
            return None
        dearest = tuple(concept for concept in priced if concept.price == top)
        if len(dearest) > 1 or (not dearest and rng.random() < 0.7):
            return None
        text = pick(rng, words("dearest"))
        text = request(text, rng) if not text.startswith("what") else text
        return _Draft(text, _plan(dearest), view.instances_of(dearest))

    def _absent(self, view: _View, rng: np.random.Generator) -> _Draft | None:
        if rng.random() < 0.15:
            plan = Plan(reason=NOTHING_ASKED, outcome=PlanOutcome.REFUSED)
            if rng.random() >= 0.3:
                return _Draft(pick(rng, words("nonsense")), plan, frozenset())
            text = gibberish(rng)
            # Letters drawn at random may name a thing after all.
            named = any(map(self.phrases.matching_concepts, text.split()))
            return None if named else _Draft(text, plan, frozenset())
        seen = {instance.concept.index for instance in view.scene.instances}
        concept = pick(rng, self.vocabulary.concepts)
        singular, plural = self._named(concept, rng)
        if seen & self.phrases.matching_concepts(singular):
            return None
        if rng.random() < 0.2:
            selection = _random_selection(rng, 3)
            text = request(reference(singular, plural, selection, rng), rng)
            return _Draft(text, Plan((ConceptQuery(singular),), select=selection), frozenset())
        text = request(noun_phrase(singular, plural, rng), rng)
        return _Draft(text, _phrases((singular,)), frozenset())

    def _selected(
        self,
        view: _View,
        text: str,
        concepts: Sequence[Concept],
        selection: Selection,
        phrases: Sequence[str] | None = None,
    ) -> _Draft | None:
        """The draft that ranks the instances of `concepts`, or None where a tie would decide."""
        kinds = {concept.index for concept in concepts}
        if view.hidden(lambda concept: concept.index in kinds):
            return None
        ranked = sorted(
            sorted(view.instances_of(concepts)), key=lambda index: view.key(index, selection.by)
        )
        first, end = selection.rank - 1, selection.rank - 1 + selection.count
        if end > len(ranked):
            return None
        if any(
            0 < edge < len(ranked) and view.tied(ranked[edge - 1], ranked[edge], selection.by)
            for edge in (first, end)
        ):
            return None
        names = _names(concepts) if phrases is None else tuple(phrases)
        plan = Plan(tuple(map(ConceptQuery, names)), select=selection)
        return _Draft(text, plan, frozenset(ranked[first:end]))

    def _named(self, concept: Concept, rng: np.random.Generator) -> tuple[str, str]:
        """Singular and plural by which `concept` is called: its name, or a shared head noun."""
        singular, plural = concept.name.split()[-1], concept.plural.split()[-1]
        if singular in words("heads") and rng.random() < 0.3:
            return singular, plural
        return concept.name, concept.plural


def _plan(concepts: Sequence[Concept]) -> Plan:
    return _phrases(_names(concepts))


def _phrases(phrases: Sequence[str]) -> Plan:
    if not phrases:
        return Plan(reason=NOTHING_FITS, outcome=PlanOutcome.REFUSED)
    return Plan(tuple(map(ConceptQuery, phrases)))


def _names(concepts: Sequence[Concept]) -> tuple[str, ...]:
    return tuple(concept.name for concept in concepts)


def _random_selection(rng: np.random.Generator, available: int) -> Selection:
    by = weighted(rng, _SELECTIONS)
    shape = weighted(rng, {"first": 0.5, "rank": 0.25, "count": 0.25})
    if available < 2 or shape == "first" or by is SelectBy.NEAREST_CENTER:
        return Selection(by)
    number = int(rng.integers(2, min(5, available + 1)))
    return Selection(by, rank=number) if shape == "rank" else Selection(by, count=number)
