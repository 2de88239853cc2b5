"""Chooses what the segmenter is asked about a training scene.

Present concepts under all their names, absent ones, and the absent ones that look most like
what is there: those decide whether "red apple" is told from "green apple".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from services.stickers.phrases import PhraseBook
from services.stickers.scenes import Scene
from services.stickers.vocabulary import Concept

_LOOK_ALIKES = (
    ("girl", "boy", "police officer", "cook"),
    ("dog", "cat", "lion", "horse", "cow"),
    ("elephant", "cow", "penguin"),
    ("turtle", "fish", "green apple"),
    ("bee", "butterfly", "sunflower"),
    ("red car", "bus", "truck", "airplane", "sailboat"),
    ("bicycle", "scissors", "key"),
    ("red apple", "green apple", "balloon"),
    ("red book", "green book", "laptop"),
    ("basketball", "soccer ball", "balloon"),
    ("tree", "cactus", "sunflower", "green apple"),
    ("carrot", "banana", "pizza", "ice cream"),
    ("coffee cup", "ice cream", "hat"),
    ("camera", "laptop", "flashlight", "alarm clock"),
    ("guitar", "flashlight", "key", "airplane"),
    ("umbrella", "hat", "grapes"),
    ("chair", "house", "truck"),
)

# Words of no concept, and the categories, which are not phrases of this world.
UNKNOWN = (
    "zebra",
    "tiger",
    "giraffe",
    "monkey",
    "rabbit",
    "bird",
    "snake",
    "sheep",
    "pig",
    "mouse",
    "bear",
    "man",
    "woman",
    "baby",
    "person",
    "people",
    "animal",
    "animals",
    "vehicle",
    "vehicles",
    "food",
    "plant",
    "building",
    "object",
    "motorcycle",
    "train",
    "boat",
    "rocket",
    "phone",
    "television",
    "clothes",
    "shoe",
    "shirt",
    "glasses",
    "bottle",
    "spoon",
    "knife",
    "fork",
    "table",
    "bed",
    "door",
    "window",
    "lamp",
    "mountain",
    "river",
    "sun",
    "moon",
    "star",
    "cloud",
    "rain",
    "flower",
    "grass",
    "rose",
    "strawberry",
    "orange",
    "lemon",
    "tomato",
    "bread",
    "cheese",
    "cake",
    "egg",
    "burger",
    "violin",
    "drum",
    "piano",
    "pencil",
    "paper",
    "hammer",
    "sword",
    "flag",
)


@dataclass(frozen=True)
class PhraseSampler:
    """Draws phrases for a scene.

    Attributes:
        book: what phrases mean.
        absent_share: probability that a drawn phrase matches nothing in the scene.
    """

    book: PhraseBook
    absent_share: float = 0.33

    @cached_property
    def look_alikes(self) -> Mapping[int, tuple[Concept, ...]]:
        """For each concept, those easily taken for it."""
        names = self.book.vocabulary.by_name
        groups: dict[int, tuple[Concept, ...]] = {
            c.index: () for c in self.book.vocabulary.concepts
        }
        for group in _LOOK_ALIKES:
            for name in group:
                others = tuple(names[other] for other in group if other != name)
                groups[names[name].index] += others
        return groups

    def pool(self, rng: np.random.Generator) -> Sequence[Concept]:
        """Concepts for a scene: the whole vocabulary, or a few that look alike."""
        concepts = self.book.vocabulary.concepts
        if rng.random() < 0.75:
            return concepts
        first = concepts[rng.integers(len(concepts))]
        others = [concepts[i] for i in rng.choice(len(concepts), 2, replace=False)]
        chosen = {c.index: c for c in (first, *self.look_alikes[first.index], *others)}
        return tuple(chosen.values())

    def phrases(self, rng: np.random.Generator, scene: Scene, count: int) -> list[str]:
        """`count` phrases, present and absent ones mixed."""
        present = sorted({instance.concept.index for instance in scene.instances})
        return [
            self._absent(rng, present)
            if rng.random() < self.absent_share
            else self._wording(rng, self.book.vocabulary.concepts[rng.choice(present)])
            for _ in range(count)
        ]

    def _absent(self, rng: np.random.Generator, present: Sequence[int]) -> str:
        draw = rng.random()
        concepts = self.book.vocabulary.concepts
        if draw < 0.12:
            return UNKNOWN[rng.integers(len(UNKNOWN))]
        alike = [c for i in present for c in self.look_alikes[i] if c.index not in present]
        if draw < 0.6 and alike:
            return self._wording(rng, alike[rng.integers(len(alike))])
        others = [c for c in concepts if c.index not in present]
        return self._wording(rng, others[rng.integers(len(others))])

    def _wording(self, rng: np.random.Generator, concept: Concept) -> str:
        phrase = concept.name if rng.random() < 0.6 else concept.plural
        if rng.random() < 0.3:
            phrase = phrase.split()[-1]
        if rng.random() < 0.08:
            phrase = f"{('the', 'a', 'all')[rng.integers(3)]} {phrase}"
        return phrase
