"""What a noun phrase means in sticker world: which concepts it matches.

The truth for phrase queries, used by the trainers, the instruction generator and the
evaluator. It follows the "Phrases" section of the world's definition:

- a concept's name or plural matches that concept;
- the head noun of a name of several words (its last word), singular or plural, matches all
  concepts that share it: "apple" matches red and green apples, "ball" the soccer ball
  ("basketball" is one word, so its head noun is itself), "car" the red car;
- but where the head noun is another concept's whole name, it means that one alone: of COCO's
  things, "dog" is no "hot dog";
- a category name ("animal", "food") matches nothing: turning it into concepts is the
  planner's work.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from training.world.vocabulary import Vocabulary

_LEADING_WORDS = frozenset({"a", "an", "the", "all", "every", "each", "any", "some"})


@dataclass(frozen=True)
class PhraseBook:
    """Looks phrases up in one vocabulary."""

    vocabulary: Vocabulary

    @cached_property
    def meanings(self) -> Mapping[str, frozenset[int]]:
        """Every phrase that matches something, lower case, with the concept indices."""
        meanings: dict[str, frozenset[int]] = {}
        names = {form for c in self.vocabulary.concepts for form in (c.name, c.plural)}
        for concept in self.vocabulary.concepts:
            for form in (concept.name, concept.plural):
                for phrase in {form, form.split()[-1]}:
                    if phrase == form or phrase not in names:
                        bare = _bare(phrase)
                        meanings[bare] = meanings.get(bare, frozenset()) | {concept.index}
        return meanings

    def matching_concepts(self, phrase: str) -> frozenset[int]:
        """Indices of the concepts that a phrase matches; empty where it matches none.

        Case, surrounding space, leading articles and quantifiers and a closing full stop do
        not matter.
        """
        return self.meanings.get(_bare(phrase), frozenset())


def _bare(phrase: str) -> str:
    """What of a phrase matters; something is left of any but an empty one."""
    words = phrase.lower().strip(" \t\n.!?\"'").split()
    while len(words) > 1 and words[0] in _LEADING_WORDS:
        words = words[1:]
    return " ".join(words)


def matching_concepts(phrase: str) -> frozenset[int]:
    """Indices of the shipped vocabulary's concepts that a phrase matches."""
    return PhraseBook(Vocabulary.load()).matching_concepts(phrase)
