"""What is asked about a scene: the first step of an evaluation, all of it from one seed.

The scene and its file come from one of the `worlds`. About each are asked, one phrase a call:

- phrases of up to three concepts that are there, by name, plural or shared head noun ("apple");
- a phrase of a look-alike: absent, and easily taken for something that is there;
- a phrase of another absent concept;
- one exemplar: the box of one instance, in half of the scenes that allow it with a negative box
  of another concept, of a look-alike where there is one;
- a phrase of several things again, with a negative box on one of them;
- instructions, the families taking turns from scene to scene.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np

from limelight.masks import encode_rle
from limelight.values import RLE, Box, ConceptQuery, Exemplar
from training.evaluation.worlds import OwnRenderer, Renderer
from training.segmenter.sampling import PhraseSampler
from training.world.instructions import Family, Instruction, InstructionWriter
from training.world.scenes import Scene, SceneInstance
from training.world.vocabulary import Concept, Vocabulary

_PRESENT = 3
# A draw of an instruction may have no sound truth; another of the same family often has.
_TRIES = 8
# Apart from the scene's own stream, so that a new kind of question leaves the others as they are.
_PHRASES, _EXEMPLARS, _INSTRUCTIONS, _NEGATIVES = range(1, 5)


class PhraseKind(StrEnum):
    """Why a phrase is asked."""

    NAME = "name"
    PLURAL = "plural"
    HEAD = "head noun"
    LOOK_ALIKE = "look-alike"
    ABSENT = "absent"


@dataclass(frozen=True)
class PhraseQuestion:
    """A phrase, and which of the scene's instances it means ("don't care" ones apart).

    Attributes:
        kind: why it is asked.
        phrase: the words.
        concept: the concept that it is asked for.
        meant: indices of the concepts that the words mean: more than `concept` for a shared head
            noun.
        wanted, dont_care: indices of the scene's instances.
    """

    kind: PhraseKind
    phrase: str
    concept: Concept
    meant: frozenset[int]
    wanted: tuple[int, ...]
    dont_care: tuple[int, ...]


@dataclass(frozen=True)
class ExemplarQuestion:
    """Boxes, and which of the scene's instances are like them."""

    query: ConceptQuery
    concept: Concept
    negative: Concept | None
    wanted: tuple[int, ...]
    dont_care: tuple[int, ...]


@dataclass(frozen=True)
class NegativeQuestion:
    """A phrase of several instances with a negative box on one of them.

    Attributes:
        phrase: one of the scene's phrase questions; its answer is what is found without the box.
        query: the same with the box.
        negated: index of the scene's instance in the box.
    """

    phrase: PhraseQuestion
    query: ConceptQuery
    negated: int

    @property
    def others(self) -> tuple[int, ...]:
        """Indices of the other instances that the phrase means."""
        return tuple(index for index in self.phrase.wanted if index != self.negated)


@dataclass(frozen=True)
class InstructionQuestion:
    """An instruction with its truth, and the "don't care" instances that it may mean."""

    instruction: Instruction
    dont_care: tuple[int, ...]


@dataclass(frozen=True)
class QuestionSet:
    """One scene's questions.

    Attributes:
        seed: of everything here.
        scene: the picture as drawn, with the truth.
        content: the file's bytes; as JPEG it differs from the drawn picture, the truth does not.
        masks: run lengths of the scene's instances, in their order.
    """

    seed: int
    scene: Scene
    content: bytes
    masks: tuple[RLE, ...]
    phrases: tuple[PhraseQuestion, ...]
    exemplar: ExemplarQuestion | None
    negative: NegativeQuestion | None
    instructions: tuple[InstructionQuestion, ...]

    def truth(self, indices: Sequence[int]) -> list[RLE]:
        """The masks of those instances."""
        return [self.masks[index] for index in indices]


@dataclass(frozen=True)
class QuestionBuilder:
    """Makes question sets in the words of one vocabulary, with `per_scene` instructions each."""

    vocabulary: Vocabulary
    per_scene: int = 3
    renderer: Renderer = field(default_factory=OwnRenderer)

    @cached_property
    def writer(self) -> InstructionWriter:
        """Writes the instructions; its phrase book says what phrases mean."""
        return InstructionWriter(self.vocabulary)

    def questions(self, seed: int) -> QuestionSet:
        """The questions of a seed, always the same."""
        scene = self.renderer.scene(seed)
        phrases = self._phrases(scene, np.random.default_rng([seed, _PHRASES]))
        return QuestionSet(
            seed=seed,
            scene=scene,
            content=self.renderer.file(scene, seed),
            masks=tuple(encode_rle(instance.mask) for instance in scene.instances),
            phrases=phrases,
            exemplar=self._exemplar(scene, np.random.default_rng([seed, _EXEMPLARS])),
            negative=self._negative(scene, phrases, np.random.default_rng([seed, _NEGATIVES])),
            instructions=self._instructions(scene, seed),
        )

    @cached_property
    def _sampler(self) -> PhraseSampler:
        return PhraseSampler(self.writer.phrases)

    def _phrases(self, scene: Scene, rng: np.random.Generator) -> tuple[PhraseQuestion, ...]:
        there = sorted({instance.concept.index for instance in scene.wanted})
        seen = {instance.concept.index for instance in scene.instances}
        chosen = rng.permutation(there)[:_PRESENT]
        asked = [self._named(self.vocabulary.concepts[index], rng) for index in chosen]
        alike = {c.index for index in there for c in self._sampler.look_alikes[index]} - seen
        others = {c.index for c in self.vocabulary.concepts} - seen - alike
        for kind, pool in ((PhraseKind.LOOK_ALIKE, alike), (PhraseKind.ABSENT, others)):
            if pool:
                concept = self.vocabulary.concepts[int(rng.choice(sorted(pool)))]
                phrase = concept.name if rng.random() < 0.5 else concept.plural
                asked.append((kind, phrase, concept))
        return tuple(self._question(scene, *one) for one in asked)

    def _named(self, concept: Concept, rng: np.random.Generator) -> tuple[PhraseKind, str, Concept]:
        """A concept that is there by its name, plural or, where it has several words, last word."""
        name, plural = concept.name, concept.plural
        if " " in name and rng.random() < 0.4:
            head = (name if rng.random() < 0.5 else plural).split()[-1]
            return PhraseKind.HEAD, head, concept
        if rng.random() < 0.5:
            return PhraseKind.NAME, name, concept
        return PhraseKind.PLURAL, plural, concept

    def _question(
        self, scene: Scene, kind: PhraseKind, phrase: str, concept: Concept
    ) -> PhraseQuestion:
        meant = self.writer.phrases.matching_concepts(phrase)
        return PhraseQuestion(kind, phrase, concept, meant, *_of_concepts(scene, meant))

    def _exemplar(self, scene: Scene, rng: np.random.Generator) -> ExemplarQuestion | None:
        if not scene.wanted:
            return None
        shown = _pick(scene.wanted, rng)
        alike = {concept.index for concept in self._sampler.look_alikes[shown.concept.index]}
        others = [item for item in scene.wanted if item.concept != shown.concept]
        confusing = [item for item in others if item.concept.index in alike]
        exemplars, negative = [Exemplar(_box(shown))], None
        if others and rng.random() < 0.5:
            against = _pick(confusing or others, rng)
            negative = against.concept
            exemplars.append(Exemplar(_box(against), positive=False))
        wanted, dont_care = _of_concepts(scene, {shown.concept.index})
        query = ConceptQuery(exemplars=tuple(exemplars))
        return ExemplarQuestion(query, shown.concept, negative, wanted, dont_care)

    def _negative(
        self, scene: Scene, phrases: Sequence[PhraseQuestion], rng: np.random.Generator
    ) -> NegativeQuestion | None:
        several = [question for question in phrases if len(question.wanted) > 1]
        if not several:
            return None
        phrase = several[int(rng.integers(len(several)))]
        negated = phrase.wanted[int(rng.integers(len(phrase.wanted)))]
        against = Exemplar(_box(scene.instances[negated]), positive=False)
        return NegativeQuestion(phrase, ConceptQuery(phrase.phrase, (against,)), negated)

    def _instructions(self, scene: Scene, seed: int) -> tuple[InstructionQuestion, ...]:
        rng = np.random.default_rng([seed, _INSTRUCTIONS])
        families = tuple(Family)
        asked = []
        for turn in range(self.per_scene):
            family = families[(seed * self.per_scene + turn) % len(families)]
            drawn = (self.writer.generate(scene, rng, family) for _ in range(_TRIES))
            if (instruction := next(filter(None, drawn), None)) is not None:
                excusable = self._excusable(scene, instruction)
                asked.append(InstructionQuestion(instruction, excusable))
        return tuple(asked)

    def _excusable(self, scene: Scene, instruction: Instruction) -> tuple[int, ...]:
        """The "don't care" instances that a right answer may hold."""
        book, plan = self.writer.phrases, instruction.plan
        if instruction.family is Family.SET:
            # "Everything except the dogs" means hidden things too, which the plan does not list.
            kinds = {concept.index for concept in self.vocabulary.concepts}
        else:
            kinds = {i for query in plan.include for i in book.matching_concepts(query.phrase)}
            kinds -= {i for query in plan.exclude for i in book.matching_concepts(query.phrase)}
        return _of_concepts(scene, kinds)[1]


def _of_concepts(
    scene: Scene, concepts: frozenset[int] | set[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Indices of the instances of these concepts: those that count, those "don't care"."""
    matching = [
        (index, instance)
        for index, instance in enumerate(scene.instances)
        if instance.concept.index in concepts
    ]
    return (
        tuple(index for index, instance in matching if not instance.dont_care),
        tuple(index for index, instance in matching if instance.dont_care),
    )


def _pick(instances: Sequence[SceneInstance], rng: np.random.Generator) -> SceneInstance:
    return instances[int(rng.integers(len(instances)))]


def _box(instance: SceneInstance) -> Box:
    return Box(*map(float, instance.box))
