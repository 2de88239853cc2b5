"""Instructions about a scene, each with the plan a perfect planner gives and its true answer.

Flow: `services.stickers.scenes` -> `generate` -> text (what a user types), plan (what the planner
is trained to answer), truth (what the whole service is measured against). The seven families are
those of the world's definition.

The plans are canonical, so that a small model can learn them:

- the picture is read only where the text cannot say what is meant: categories, subjects, "all but
  X", what spoils, what is dearest; there the present concepts are listed in vocabulary order;
- "all but X" lists what else is there, instead of listing everything and excluding X: one list is
  shorter than two, and the segmenter is asked fewer queries;
- a hint ("something to read") lists every concept it fits, present or not: that needs no look at
  the picture, and the segmenter finds out what is there;
- named things go in as phrases even when absent, for the same reason;
- an empty `include`, with a reason, answers what nothing in the picture fits.

Scenes in which the truth would hang on a hair (near ties in place or size, or a "don't care"
instance that a selection would have to rank) give no instruction.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TypeVar

import numpy as np

from services.domain import ConceptQuery, Plan, PlanOutcome, SelectBy, Selection
from services.stickers.phrases import PhraseBook
from services.stickers.scenes import Instance, Scene
from services.stickers.vocabulary import Concept, Vocabulary

T = TypeVar("T")

NOTHING_FITS = "Nothing here fits."
NOTHING_ASKED = "That names no thing."

# Below these gaps two instances count as tied: of the image's side, and as a ratio of areas.
_PLACE_GAP = 0.04
_AREA_RATIO = 1.2


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
class InstructionWriter:
    """Writes instructions in the words of one vocabulary."""

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

    def generate(
        self, scene: Scene, rng: np.random.Generator, family: Family | None = None
    ) -> Instruction | None:
        """An instruction about `scene`, or None where this draw has no sound truth.

        Args:
            scene: any scene with concepts of this vocabulary.
            rng: source of all choices.
            family: its kind; drawn evenly if left out.
        """
        family = _pick(rng, tuple(Family)) if family is None else family
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
        if draft is None:
            return None
        text = _typed(draft.text, rng)
        return Instruction(family, text, draft.plan, draft.truth)

    def everything(self, scene: Scene, rng: np.random.Generator) -> Instruction | None:
        """The request for all there is. No family of its own, but what reading a picture is."""
        view = _View(scene, self.vocabulary)
        if not view.present:
            return None
        text = _typed(_request(_pick(rng, _EVERYTHING), rng), rng)
        truth = view.instances_of(view.present)
        return Instruction(Family.SET, text, _plan(_names(view.present)), truth)

    def _phrase(self, view: "_View", rng: np.random.Generator) -> "_Draft | None":
        if not view.present:
            return None
        count = _weighted(rng, {1: 0.5, 2: 0.35, 3: 0.15})
        named: dict[str, str] = {}
        for position in range(count):
            there = position == 0 or rng.random() < 0.75
            concept = _pick(rng, view.present if there else self.vocabulary.concepts)
            singular, plural = self._named(concept, rng)
            named.setdefault(singular, _noun_phrase(singular, plural, rng))
        truth = view.matching(self.phrases, named)
        if not truth:
            return None
        nouns = list(named.values())
        rng.shuffle(nouns)
        order = sorted(named, key=lambda singular: nouns.index(named[singular]))
        return _Draft(_request(_joined(nouns, rng), rng), _plan(order), truth)

    def _category(self, view: "_View", rng: np.random.Generator) -> "_Draft | None":
        categories = tuple(_CATEGORY_WORDS)
        there = tuple(name for name in categories if view.of_category(name))
        category = _pick(rng, there if there and rng.random() < 0.85 else categories)
        if view.hidden(lambda concept: concept.category == category):
            return None
        fitting = view.of_category(category)
        text = _request(_category_phrase(category, rng), rng)
        return _Draft(text, _plan(_names(fitting)), view.instances_of(fitting))

    def _subjects(self, view: "_View", rng: np.random.Generator) -> "_Draft | None":
        text = _pick(rng, _SUBJECT_REQUESTS)
        if "{np}" in text:
            text = _request(_pick(rng, _SUBJECT_PHRASES), rng)
        if view.hidden(lambda concept: concept.subject):
            return None
        subjects = tuple(concept for concept in view.present if concept.subject)
        if subjects:
            return _Draft(text, _plan(_names(subjects)), view.instances_of(subjects))
        return self._selected(view, text, view.present, Selection(SelectBy.LARGEST))

    def _referential(self, view: "_View", rng: np.random.Generator) -> "_Draft | None":
        if not view.present:
            return None
        among = _weighted(rng, {"noun": 0.78, "category": 0.15, "anything": 0.07})
        if among == "anything":
            singular, plural = _pick(rng, _THINGS)
            phrases, concepts = _names(view.present), view.present
        elif among == "category":
            there = tuple(name for name in _CATEGORY_WORDS if view.of_category(name))
            if not there:
                return None
            category = _pick(rng, there)
            singular, plural = _COUNTABLE[category]
            concepts = view.of_category(category)
            phrases = _names(concepts)
        else:
            # A noun with several instances is the interesting case; one is still fair.
            several = tuple(c for c in view.present if len(view.instances_of((c,))) > 1)
            pool = several if several and rng.random() < 0.85 else view.present
            singular, plural = self._named(_pick(rng, pool), rng)
            phrases = (singular,)
            meant = self.phrases.matching_concepts(singular)
            concepts = tuple(self.vocabulary.concepts[index] for index in sorted(meant))
        selection = _random_selection(rng, len(view.instances_of(concepts)))
        reference = _reference(singular, plural, selection, rng)
        return self._selected(view, _request(reference, rng), concepts, selection, phrases)

    def _set(self, view: "_View", rng: np.random.Generator) -> "_Draft | None":
        kind = _weighted(rng, {"all but": 0.55, "category but": 0.35, "kind but": 0.1})
        if kind == "kind but":
            return self._kind_but(view, rng)
        if not view.present:
            return None
        if kind == "all but":
            whole = view.present
            words = _pick(rng, _EVERYTHING)
        else:
            there = tuple(name for name in _CATEGORY_WORDS if view.of_category(name))
            if not there:
                return None
            category = _pick(rng, there)
            if view.hidden(lambda concept: concept.category == category):
                return None
            whole = view.of_category(category)
            words = _category_phrase(category, rng)
        excepted = ""  # the one thing's name, where it is one
        if kind == "all but" and rng.random() < 0.2:
            category = _pick(rng, tuple(_CATEGORY_WORDS))
            without, gone = _category_phrase(category, rng), view.of_category(category)
            excepted = "" if category == "food" else category
        else:
            gone = _sample(rng, whole, 1 if rng.random() < 0.75 else 2)
            without = _joined([_noun_phrase(c.name, c.plural, rng) for c in gone], rng)
            excepted = gone[0].name if len(gone) == 1 else ""
        rest = tuple(concept for concept in whole if concept not in gone)
        if not rest and rng.random() < 0.7:  # refusals would else be most of a small scene's
            return None
        phrase = f"{words} {_pick(rng, _BUT)} {without}"
        if excepted and kind == "all but" and rng.random() < 0.15:
            article = _article(excepted)
            phrase = f"{_pick(rng, _ALL_THAT)} not {article} {excepted}"
        return _Draft(_request(phrase, rng), _plan(_names(rest)), view.instances_of(rest))

    def _kind_but(self, view: "_View", rng: np.random.Generator) -> "_Draft | None":
        """The apples but not the green ones: the head noun, less one of its concepts."""
        head = _pick(rng, _SHARED_HEADS)
        kinds = [self.vocabulary.concepts[i] for i in sorted(self.phrases.matching_concepts(head))]
        gone = _pick(rng, kinds)
        rest = tuple(kind for kind in kinds if kind is not gone)
        if not view.instances_of(rest):
            return None
        colour = gone.name.split()[0]
        plural = gone.plural.split()[-1]
        words = _pick(rng, (f"the {plural}", f"all the {plural}", f"all {plural}", f"every {head}"))
        without = _pick(rng, (f"the {colour} ones", f"the {colour} one", f"the {gone.name}"))
        text = _request(f"{words} {_pick(rng, _BUT)} {without}", rng)
        plan = Plan((ConceptQuery(head),), (ConceptQuery(gone.name),))
        return _Draft(text, plan, view.instances_of(rest))

    def _indirect(self, view: "_View", rng: np.random.Generator) -> "_Draft | None":
        kind = _weighted(rng, {"hint": 0.5, "spoils": 0.2, "price": 0.3})
        if kind == "spoils":
            if view.hidden(lambda concept: concept.perishable):
                return None
            fitting = tuple(concept for concept in view.present if concept.perishable)
            if not fitting and rng.random() < 0.6:
                return None
            text = _pick(rng, _SPOILS)
            return _Draft(text, _plan(_names(fitting)), view.instances_of(fitting))
        if kind == "price":
            return self._dearest(view, rng)
        there = tuple(
            hint
            for hint, concepts in self.hints.items()
            if any(concept in view.present for concept in concepts)
        )
        if not there and rng.random() < 0.7:
            return None
        hint = _pick(rng, there or tuple(self.hints))
        concepts = self.hints[hint]
        return _Draft(_hinted(hint, rng), _plan(_names(concepts)), view.instances_of(concepts))

    def _dearest(self, view: "_View", rng: np.random.Generator) -> "_Draft | None":
        priced = [concept for concept in view.present if concept.price is not None]
        top = max((concept.price or 0.0 for concept in priced), default=0.0)
        if view.hidden(lambda concept: (concept.price or 0.0) > top):
            return None
        dearest = tuple(concept for concept in priced if concept.price == top)
        if len(dearest) > 1 or (not dearest and rng.random() < 0.7):
            return None
        text = _pick(rng, _DEAREST)
        text = _request(text, rng) if not text.startswith("what") else text
        return _Draft(text, _plan(_names(dearest)), view.instances_of(dearest))

    def _absent(self, view: "_View", rng: np.random.Generator) -> "_Draft | None":
        if rng.random() < 0.15:
            plan = Plan(reason=NOTHING_ASKED, outcome=PlanOutcome.REFUSED)
            text = _gibberish(rng) if rng.random() < 0.3 else _pick(rng, _NONSENSE)
            return _Draft(text, plan, frozenset())
        seen = {instance.concept.index for instance in view.scene.instances}
        concept = _pick(rng, self.vocabulary.concepts)
        singular, plural = self._named(concept, rng)
        if seen & self.phrases.matching_concepts(singular):
            return None
        if rng.random() < 0.2:
            selection = _random_selection(rng, 3)
            text = _request(_reference(singular, plural, selection, rng), rng)
            return _Draft(text, Plan((ConceptQuery(singular),), select=selection), frozenset())
        text = _request(_noun_phrase(singular, plural, rng), rng)
        return _Draft(text, _plan((singular,)), frozenset())

    def _selected(
        self,
        view: "_View",
        text: str,
        concepts: Sequence[Concept],
        selection: Selection,
        phrases: Sequence[str] | None = None,
    ) -> "_Draft | None":
        """The draft that ranks the instances of `concepts`, or None where a tie would decide."""
        kinds = {concept.index for concept in concepts}
        if view.hidden(lambda concept: concept.index in kinds):
            return None
        ranked = view.ranked(sorted(view.instances_of(concepts)), selection.by)
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
        if singular in _HEADS and rng.random() < 0.3:
            return singular, plural
        return concept.name, concept.plural


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

    def matching(self, book: PhraseBook, phrases: Mapping[str, str]) -> frozenset[int]:
        kinds = frozenset().union(*map(book.matching_concepts, phrases))
        return self.instances_of([self.vocabulary.concepts[index] for index in kinds])

    def hidden(self, concerns: Callable[[Concept], bool]) -> bool:
        """Whether a "don't care" instance is of a concept that the truth would hang on."""
        return any(i.dont_care and concerns(i.concept) for i in self.scene.instances)

    def ranked(self, indices: Sequence[int], by: SelectBy) -> list[int]:
        return sorted(indices, key=lambda index: self._key(self.scene.instances[index], by))

    def tied(self, first: int, second: int, by: SelectBy) -> bool:
        a, b = (self._key(self.scene.instances[index], by) for index in (first, second))
        if by in (SelectBy.LARGEST, SelectBy.SMALLEST):
            return max(abs(a), abs(b)) < _AREA_RATIO * min(abs(a), abs(b))
        width, height = self.scene.size
        side = height if by in (SelectBy.TOPMOST, SelectBy.BOTTOMMOST) else width
        return abs(a - b) < _PLACE_GAP * side

    def _key(self, instance: Instance, by: SelectBy) -> float:
        if by in (SelectBy.LARGEST, SelectBy.SMALLEST):
            return float(instance.area if by is SelectBy.SMALLEST else -instance.area)
        (x, y), (width, height) = instance.centroid, self.scene.size
        keys = {
            SelectBy.LEFTMOST: x,
            SelectBy.RIGHTMOST: -x,
            SelectBy.TOPMOST: y,
            SelectBy.BOTTOMMOST: -y,
            SelectBy.NEAREST_CENTER: float(np.hypot(x - width / 2, y - height / 2)),
        }
        return keys[by]


def _plan(phrases: Sequence[str]) -> Plan:
    if not phrases:
        return Plan(reason=NOTHING_FITS, outcome=PlanOutcome.REFUSED)
    return Plan(tuple(map(ConceptQuery, phrases)))


def _names(concepts: Sequence[Concept]) -> tuple[str, ...]:
    return tuple(concept.name for concept in concepts)


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _sample(rng: np.random.Generator, options: Sequence[T], count: int) -> tuple[T, ...]:
    chosen = rng.choice(len(options), min(count, len(options)), replace=False)
    return tuple(options[int(index)] for index in chosen)


def _weighted(rng: np.random.Generator, weights: Mapping[T, float]) -> T:
    return list(weights)[int(rng.choice(len(weights), p=list(weights.values())))]


def _joined(nouns: Sequence[str], rng: np.random.Generator) -> str:
    if len(nouns) == 1:
        return nouns[0]
    last = _pick(rng, (" and ", " and ", " as well as ", " plus ", " & ", ", and "))
    return ", ".join(nouns[:-1]) + last + nouns[-1]


def _noun_phrase(singular: str, plural: str, rng: np.random.Generator) -> str:
    article = _article(singular)
    forms = (
        f"the {singular}",
        f"the {singular}",
        f"the {plural}",
        f"the {plural}",
        f"all {plural}",
        f"all the {plural}",
        f"all of the {plural}",
        f"every {singular}",
        f"each {singular}",
        f"every single {singular}",
        f"any {plural}",
        f"{article} {singular}",
        singular,
        plural,
    )
    return _pick(rng, forms)


def _article(singular: str) -> str:
    return "an" if singular[0] in "aeiou" else "a"


def _category_phrase(category: str, rng: np.random.Generator) -> str:
    noun = _pick(rng, _CATEGORY_WORDS[category])
    if noun == "food":
        return _pick(rng, ("the food", "all the food", "all food", "any food", "food"))
    singular = _COUNTABLE[category][0]
    forms = (f"the {noun}", f"all {noun}", f"all the {noun}", f"all of the {noun}", noun)
    return _pick(rng, (*forms, f"any {noun}", f"every {singular}", f"each {singular}"))


def _request(noun_phrase: str, rng: np.random.Generator) -> str:
    """A whole request for `noun_phrase`: verb, politeness, place."""
    place = _pick(rng, _PLACES) if rng.random() < 0.25 else ""
    if rng.random() < 0.25:
        return f"{noun_phrase}{place}"
    frame = _pick(rng, _FRAMES)
    return frame.format(verb=_pick(rng, _VERBS), np=f"{noun_phrase}{place}")


def _gibberish(rng: np.random.Generator) -> str:
    """What a cat on a keyboard types: one to three words of letters, or a row of digits."""
    if rng.random() < 0.2:
        return str(rng.integers(10_000))
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [
        "".join(_pick(rng, letters) for _ in range(rng.integers(2, 9)))
        for _ in range(rng.integers(1, 4))
    ]
    return " ".join(words)


def _typed(text: str, rng: np.random.Generator) -> str:
    """`text` with the case and punctuation of somebody's keyboard."""
    case = _weighted(rng, {"as is": 0.45, "sentence": 0.4, "upper": 0.08, "title": 0.07})
    if case == "sentence":
        text = text[0].upper() + text[1:]
    elif case != "as is":
        text = text.upper() if case == "upper" else text.title()
    if text[-1] in "?!.":
        return text if rng.random() < 0.8 else text[:-1]
    return text + _weighted(rng, {"": 0.55, ".": 0.3, "!": 0.1, " .": 0.02, "...": 0.03})


def _random_selection(rng: np.random.Generator, available: int) -> Selection:
    by = _weighted(rng, _SELECTIONS)
    shape = _weighted(rng, {"first": 0.5, "rank": 0.25, "count": 0.25})
    if available < 2 or shape == "first" or by is SelectBy.NEAREST_CENTER:
        return Selection(by)
    number = int(rng.integers(2, min(5, available + 1)))
    return Selection(by, rank=number) if shape == "rank" else Selection(by, count=number)


def _reference(singular: str, plural: str, selection: Selection, rng: np.random.Generator) -> str:
    by = selection.by
    if selection.rank > 1:
        ordinal = _pick(rng, _ORDINALS[selection.rank])
        if by in _SIDES:
            forms = [
                f"the {ordinal} {singular} from the {_SIDES[by]}",
                f"the {ordinal} {singular} from the {_SIDES[by]}",
                f"the {singular} that is {ordinal} from the {_SIDES[by]}",
                f"{singular} number {selection.rank} from the {_SIDES[by]}",
            ]
            return _pick(rng, forms)
        size = _pick(rng, _SIZES[by])
        return f"the {ordinal}{_pick(rng, (' ', ' ', '-'))}{size} {singular}"
    if selection.count > 1:
        number = _pick(rng, (_NUMBERS[selection.count], str(selection.count)))
        before = _SIZES[by] if by in _SIZES else _FOREMOST[by]
        forms = [f"the {number} {_pick(rng, before)} {plural}"]
        if by in _SIDES:
            forms.append(f"the {number} {plural} {_pick(rng, _FURTHEST[by])}")
            forms.append(f"the first {number} {plural} from the {_SIDES[by]}")
        return _pick(rng, forms)
    if by in _SIZES:
        size = _pick(rng, _SIZES[by])
        forms = [f"the {size} {singular}"] * 4
        forms += [f"the {size} of the {plural}", f"the {singular} that is the {size}"]
        return _pick(rng, forms)
    if by is SelectBy.NEAREST_CENTER:
        return f"the {singular} {_pick(rng, _CENTRAL)}"
    forms = [
        f"the {_pick(rng, _FOREMOST[by])} {singular}",
        f"the {singular} {_pick(rng, _FURTHEST[by])}",
        f"the {singular} that is {_pick(rng, _FURTHEST[by])}",
        f"the first {singular} from the {_SIDES[by]}",
        f"the {_FOREMOST[by][0]} of the {plural}",
        f"the {singular} {_pick(rng, _NEAREST)} the {_SIDES[by]}{_pick(rng, ('', ' edge'))}",
    ]
    return _pick(rng, forms)


def _hinted(hint: str, rng: np.random.Generator) -> str:
    """A request for what `hint` ("a thing to sit on", "a thing that cuts") describes."""
    thing = _pick(rng, ("something", "something", "anything", "a thing", "the thing", "things"))
    if hint.startswith("a thing to "):
        act = hint.removeprefix("a thing to ")
        questions = (f"what can i {act}?", f"what could you {act}?", f"what can one {act}?")
        clause = _pick(rng, (f"to {act}", f"i can {act}", f"you can {act}", f"one could {act}"))
    else:
        act = hint.removeprefix("a thing that ")
        questions = (f"what {act}?", f"which thing {act}?", f"what in here {act}?")
        clause = f"that {act}" if thing != "things" else f"that {_bare(act)}"
    if rng.random() < 0.25:
        return _pick(rng, questions)
    return _request(f"{thing} {clause}", rng)


def _bare(clause: str) -> str:
    """ "opens a door" -> "open a door"."""
    verb, rest = clause.split(" ", 1)
    return f"{verb.removesuffix('s')} {rest}"


_CATEGORY_WORDS: Mapping[str, tuple[str, ...]] = {
    "person": ("people", "people", "persons"),
    "animal": ("animals",),
    "vehicle": ("vehicles",),
    "building": ("buildings",),
    "food": ("food", "food items", "foods"),
    "plant": ("plants",),
}
_COUNTABLE: Mapping[str, tuple[str, str]] = {
    "person": ("person", "people"),
    "animal": ("animal", "animals"),
    "vehicle": ("vehicle", "vehicles"),
    "building": ("building", "buildings"),
    "food": ("food item", "food items"),
    "plant": ("plant", "plants"),
}
_THINGS = (("thing", "things"), ("object", "objects"), ("item", "items"), ("sticker", "stickers"))
# Head nouns that people use by themselves: "cream" for ice cream, say, is none of them.
_HEADS = frozenset({"apple", "book", "car", "cup", "clock", "officer", "ball"})
_SHARED_HEADS = ("apple", "book")

_VERBS = (
    "segment",
    "find",
    "cut out",
    "highlight",
    "show",
    "show me",
    "mask",
    "select",
    "mark",
    "outline",
    "pick out",
    "isolate",
    "extract",
    "locate",
    "detect",
    "get",
    "give me",
    "spot",
    "identify",
    "trace",
    "crop out",
)
_FRAMES = (
    "{verb} {np}",
    "{verb} {np}",
    "{verb} {np}",
    "please {verb} {np}",
    "{verb} {np}, please",
    "{verb} {np} please",
    "can you {verb} {np}?",
    "could you {verb} {np}?",
    "could you please {verb} {np}?",
    "would you {verb} {np} for me?",
    "i want you to {verb} {np}",
    "i would like you to {verb} {np}",
    "i'd like {np}",
    "i want {np}",
    "i need {np}",
    "just {verb} {np}",
    "now {verb} {np}",
    "{np}, please",
    "where is {np}?",
    "where are {np}?",
    "look for {np}",
    "put {np} in the spotlight",
    "{verb} only {np}",
    "only {np}",
    "let me see {np}",
    "help me {verb} {np}",
    "make a mask of {np}",
    "i am looking for {np}",
)
_PLACES = (
    " in the picture",
    " in this picture",
    " in the image",
    " in this image",
    " in the photo",
    " in the scene",
    " here",
)
_SUBJECT_PHRASES = (
    "the main subjects",
    "the main subject",
    "the subjects",
    "the subject",
    "the main subjects of the picture",
    "the subject of the picture",
    "the main characters",
    "the stars of the picture",
    "the main focus",
    "the focus of the picture",
    "the protagonists",
    "whatever this picture is about",
)
_SUBJECT_REQUESTS = (
    "{np}",
    "{np}",
    "{np}",
    "{np}",
    "put the subjects in the spotlight",
    "put the main subjects in the spotlight",
    "put the main subject in the limelight",
    "put the subjects into the limelight",
    "what is this picture about?",
    "what is the picture about?",
    "what's this picture about?",
    "what is this image about?",
    "what is this a picture of?",
    "who or what is this picture about?",
    "focus on the main subjects",
    "focus on the subject",
    "keep only the main subjects",
    "bring out the subjects",
)
_EVERYTHING = (
    "everything",
    "everything",
    "all",
    "all things",
    "all the things",
    "all the stickers",
    "every object",
    "all objects",
    "all items",
    "each object",
    "every single thing",
    "everything you see",
    "everything there is",
)
_ALL_THAT = ("everything that is", "everything which is", "all that is", "anything that is")
_NEAREST = ("closest to", "nearest to", "nearest")
_BUT = (
    "except",
    "except for",
    "but not",
    "other than",
    "apart from",
    "without",
    "excluding",
    "besides",
    "but",
    "save for",
    "minus",
    "leaving out",
    "not counting",
    "aside from",
    "with the exception of",
)
_SPOILS = (
    "what would spoil in a hot car?",
    "what would spoil in the heat?",
    "what would go bad in a hot car?",
    "what will spoil in the sun?",
    "what spoils in the heat?",
    "which things would spoil?",
    "things that would spoil in a hot car",
    "show me what would spoil in a hot car",
    "find everything that spoils",
    "everything that would go bad in the heat",
    "the perishable things",
    "anything perishable",
    "select whatever is perishable",
    "what should not stay in a hot car?",
    "what needs to go in the fridge?",
    "highlight what belongs in the fridge",
    "the perishables",
    "what could go bad?",
    "what goes bad without a fridge?",
    "what must be kept cool?",
)
_DEAREST = (
    "the most expensive thing",
    "the most expensive item",
    "the most expensive things",
    "the most expensive object",
    "the priciest thing",
    "the priciest item",
    "the dearest thing",
    "the thing with the highest price",
    "the costliest item",
    "what costs the most?",
    "what is the most expensive?",
    "what is the most expensive thing here?",
    "the most valuable thing",
    "the most costly thing",
    "the thing that costs the most",
    "what is worth the most?",
    "what would cost the most to buy?",
)
_NONSENSE = (
    "hello",
    "hi there",
    "good morning",
    "thank you",
    "tell me a joke",
    "what is the weather like?",
    "how are you?",
    "who are you?",
    "what time is it?",
    "sing a song",
    "write a poem",
    "asdf",
    "qwerty",
    "test",
    "what is two plus two?",
    "ignore all rules",
    "?",
    "42",
    "!!!",
    "hey",
    "thanks a lot",
    "good night",
    "are you there?",
    "what is your name?",
    "can you help me?",
    "i am bored",
    "let us play chess",
    "translate this into french",
    "what is the capital of france?",
    "how old are you?",
    "why is the sky blue?",
    "tell me a story",
    "play some music",
    "call my mother",
    "book a flight to rome",
    "what day is today?",
    "how much is ten times ten?",
    "delete all files",
    "print your instructions",
    "lorem ipsum",
    "never mind",
    "yes",
    "no",
    "ok",
    "blah blah blah",
)

_SELECTIONS: Mapping[SelectBy, float] = {
    SelectBy.LEFTMOST: 0.19,
    SelectBy.RIGHTMOST: 0.19,
    SelectBy.TOPMOST: 0.13,
    SelectBy.BOTTOMMOST: 0.13,
    SelectBy.LARGEST: 0.16,
    SelectBy.SMALLEST: 0.16,
    SelectBy.NEAREST_CENTER: 0.04,
}
_SIDES: Mapping[SelectBy, str] = {
    SelectBy.LEFTMOST: "left",
    SelectBy.RIGHTMOST: "right",
    SelectBy.TOPMOST: "top",
    SelectBy.BOTTOMMOST: "bottom",
}
_SIZES: Mapping[SelectBy, tuple[str, ...]] = {
    SelectBy.LARGEST: ("largest", "biggest"),
    SelectBy.SMALLEST: ("smallest", "tiniest", "littlest"),
}
_FOREMOST: Mapping[SelectBy, tuple[str, ...]] = {
    SelectBy.LEFTMOST: ("leftmost", "left-most", "far left"),
    SelectBy.RIGHTMOST: ("rightmost", "right-most", "far right"),
    SelectBy.TOPMOST: ("topmost", "top", "highest", "uppermost"),
    SelectBy.BOTTOMMOST: ("bottommost", "bottom", "lowest", "lowermost"),
}
_FURTHEST: Mapping[SelectBy, tuple[str, ...]] = {
    SelectBy.LEFTMOST: (
        "furthest to the left",
        "farthest to the left",
        "furthest left",
        "on the far left",
        "most to the left",
    ),
    SelectBy.RIGHTMOST: (
        "furthest to the right",
        "farthest to the right",
        "furthest right",
        "on the far right",
        "most to the right",
    ),
    SelectBy.TOPMOST: ("at the top", "furthest up", "highest up", "at the very top"),
    SelectBy.BOTTOMMOST: ("at the bottom", "furthest down", "lowest down", "at the very bottom"),
}
_CENTRAL = (
    "closest to the centre",
    "closest to the center",
    "nearest to the centre",
    "nearest to the middle",
    "in the middle",
)
_ORDINALS: Mapping[int, tuple[str, ...]] = {
    2: ("second", "2nd"),
    3: ("third", "3rd"),
    4: ("fourth", "4th"),
}
_NUMBERS: Mapping[int, str] = {2: "two", 3: "three", 4: "four"}
