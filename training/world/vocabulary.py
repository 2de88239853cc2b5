"""The 48 concepts of sticker world, read from ``data/vocabulary.tsv``; or a dataset's own.

Everything in the world starts here: the sprite sheet is cut in this order, scenes are
composed of these concepts, phrases and instructions name them. A dataset to fine-tune on
(`training.datasets.coco`) has its categories for concepts and makes a `Vocabulary` of them.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Self


@dataclass(frozen=True)
class Concept:
    """One row of the vocabulary.

    Attributes:
        index: position in the vocabulary; in sticker world also the cell in the sprite sheet.
        emoji: the glyph, variation selectors and joiners included; empty in a dataset.
        name: singular, lower case ("red apple").
        plural: plural, lower case ("red apples"); may equal the name ("fish").
        category: "person", "animal", "vehicle", "building", "food", "object" or "plant"; in a
            dataset its supercategory.
        subject: whether it counts as a main subject (people and animals).
        price: in an unnamed currency; None where a price makes no sense.
        perishable: whether it spoils in the heat.
        hint: an indirect description ("a thing to read"), None where there is none.
    """

    index: int
    emoji: str
    name: str
    plural: str
    category: str
    subject: bool
    price: float | None
    perishable: bool
    hint: str | None


@dataclass(frozen=True)
class Vocabulary:
    """All concepts of a world; each one's index is its place here."""

    concepts: tuple[Concept, ...]

    @classmethod
    @cache
    def load(cls) -> Self:
        """The vocabulary that ships with the package; read once a process, immutable."""
        table = resources.files("training.world") / "data" / "vocabulary.tsv"
        rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines(), delimiter="\t")
        return cls(tuple(_concept(index, row) for index, row in enumerate(rows)))

    @cached_property
    def by_name(self) -> Mapping[str, Concept]:
        """Concepts by their singular name."""
        return {concept.name: concept for concept in self.concepts}

    @cached_property
    def by_category(self) -> Mapping[str, tuple[Concept, ...]]:
        """Concepts by category, in vocabulary order."""
        categories: dict[str, tuple[Concept, ...]] = {}
        for concept in self.concepts:
            categories[concept.category] = (*categories.get(concept.category, ()), concept)
        return categories


def _concept(index: int, row: Mapping[str, str | None]) -> Concept:
    # Rows end early where the last columns are empty: DictReader then gives None.
    fields = {key: (value or "").strip() for key, value in row.items()}
    return Concept(
        index=index,
        emoji=fields["emoji"],
        name=fields["name"],
        plural=fields["plural"],
        category=fields["category"],
        subject=fields["subject"] == "yes",
        price=float(fields["price"]) if fields["price"] else None,
        perishable=fields["perishable"] == "yes",
        hint=fields["hint"] or None,
    )
