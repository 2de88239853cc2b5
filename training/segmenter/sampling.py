"""Chooses what the segmenter is asked about a scene.

Present concepts under all their names, absent ones, and the absent ones that look most like
what is there: those decide whether "red apple" is told from "green apple". Training, its
validation and the evaluation ask alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np

from training.world.phrases import PhraseBook
from training.world.scenes import Scene
from training.world.vocabulary import Concept, Vocabulary
from training.world.wording import words


@dataclass(frozen=True)
class PhraseSampler:
    """Draws phrases for a scene; by default one of sticker world.

    Attributes:
        book: what phrases mean.
        groups: names of concepts that are easily taken for each other.
        unknown: phrases that match nothing.
        absent_share: probability that a drawn phrase matches nothing in the scene.
        head_share: probability that of a name only the last word is said.
        article_share: probability of a leading "the", "a" or "all".
    """

    book: PhraseBook
    groups: Sequence[Sequence[str]] = field(default_factory=lambda: words("look_alikes"))
    unknown: Sequence[str] = field(default_factory=lambda: words("unknown"))
    absent_share: float = 0.33
    head_share: float = 0.3
    article_share: float = 0.08

    @classmethod
    def of_dataset(cls, vocabulary: Vocabulary) -> Self:
        """Says names and plurals only; concepts of one category count as look-alikes."""
        siblings = vocabulary.by_category.values()
        return cls(
            PhraseBook(vocabulary),
            groups=[[concept.name for concept in group] for group in siblings],
            unknown=(),
            head_share=0.0,
            article_share=0.0,
        )

    @cached_property
    def look_alikes(self) -> Mapping[int, tuple[Concept, ...]]:
        """For each concept, those easily taken for it."""
        names = self.book.vocabulary.by_name
        groups: dict[int, tuple[Concept, ...]] = {
            c.index: () for c in self.book.vocabulary.concepts
        }
        for group in self.groups:
            for name in group:
                others = tuple(names[other] for other in group if other != name)
                groups[names[name].index] += others
        return groups

    def phrases(self, rng: np.random.Generator, scene: Scene, count: int) -> list[str]:
        """`count` phrases, present and absent ones mixed.

        Where everything that has a name is there (in a dataset of one category), none is absent.
        """
        concepts = self.book.vocabulary.concepts
        present = sorted({instance.concept.index for instance in scene.instances})
        always = len(present) == len(concepts) and not self.unknown
        return [
            self._absent(rng, present)
            if rng.random() < self.absent_share and not always
            else self._wording(rng, concepts[rng.choice(present)])
            for _ in range(count)
        ]

    def _absent(self, rng: np.random.Generator, present: Sequence[int]) -> str:
        draw = rng.random()
        concepts = self.book.vocabulary.concepts
        others = [c for c in concepts if c.index not in present]
        if self.unknown and (draw < 0.12 or not others):
            return self.unknown[int(rng.integers(len(self.unknown)))]
        alike = [c for i in present for c in self.look_alikes[i] if c.index not in present]
        if draw < 0.6 and alike:
            return self._wording(rng, alike[rng.integers(len(alike))])
        return self._wording(rng, others[rng.integers(len(others))])

    def _wording(self, rng: np.random.Generator, concept: Concept) -> str:
        phrase = concept.name if rng.random() < 0.6 else concept.plural
        if rng.random() < self.head_share:
            phrase = phrase.split()[-1]
        if rng.random() < self.article_share:
            phrase = f"{('the', 'a', 'all')[rng.integers(3)]} {phrase}"
        return phrase
