"""How people say it: phrases and requests, made of the words in ``data/words.toml``.

`training.world.instructions` decides what is asked and what its answer is; the functions here put
it into words. Every choice comes from the generator that is passed in, and none of them changes
what is meant.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import numpy as np

from limelight.values import SelectBy, Selection
from training.world.plurals import plain_plural

T = TypeVar("T")

# Supercategories of COCO that do not name a kind of thing.
_NO_KINDS = frozenset({"object", "indoor", "outdoor"})


@cache
def _lexicon() -> Mapping[str, Any]:
    file = resources.files("training.world") / "data" / "words.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def words(*path: str) -> Any:
    """What the lexicon has under a name, or under a table's name and a key in it."""
    found: Any = _lexicon()
    for name in path:
        found = found[name]
    return found


@dataclass(frozen=True)
class CategoryWords:
    """What people call the things of one category.

    Attributes:
        whole: names for all of them.
        singular, plural: for one and for some, as they can be counted.
        mass: the one of `whole` that has no plural ("food"), or empty.
    """

    whole: Sequence[str]
    singular: str
    plural: str
    mass: str = ""


def category_words(category: str) -> CategoryWords | None:
    """The words for a category; None for one that does not name a kind.

    Known are sticker world's categories and COCO's supercategories; others are taken for a common
    noun in the singular.
    """
    if category in _NO_KINDS:
        return None
    plural = plain_plural(category)
    known = words("categories").get(category)
    return CategoryWords(**known) if known else CategoryWords((plural,), category, plural)


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def sample(rng: np.random.Generator, options: Sequence[T], count: int) -> tuple[T, ...]:
    """`count` different options, or all of them where there are no more."""
    chosen = rng.choice(len(options), min(count, len(options)), replace=False)
    return tuple(options[int(index)] for index in chosen)


def weighted(rng: np.random.Generator, weights: Mapping[T, float]) -> T:
    """One of the keys, by its weight; the weights add up to 1."""
    return list(weights)[int(rng.choice(len(weights), p=list(weights.values())))]


def joined(nouns: Sequence[str], rng: np.random.Generator) -> str:
    """ "the dog, a cat and all keys"."""
    if len(nouns) == 1:
        return nouns[0]
    last = pick(rng, (" and ", " and ", " as well as ", " plus ", " & ", ", and "))
    return ", ".join(nouns[:-1]) + last + nouns[-1]


def noun_phrase(singular: str, plural: str, rng: np.random.Generator) -> str:
    """All instances of a thing, in one of the ways to ask for them."""
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
        f"{article(singular)} {singular}",
        singular,
        plural,
    )
    return pick(rng, forms)


def article(singular: str) -> str:
    """ "a" or "an"."""
    return "an" if singular[0] in "aeiou" else "a"


def category_phrase(words: CategoryWords, rng: np.random.Generator) -> str:
    """All of a category, in one of its names: "every animal", "all the food"."""
    noun = pick(rng, words.whole)
    if noun == words.mass:
        return pick(rng, (f"the {noun}", f"all the {noun}", f"all {noun}", f"any {noun}", noun))
    singular = words.singular
    forms = (f"the {noun}", f"all {noun}", f"all the {noun}", f"all of the {noun}", noun)
    return pick(rng, (*forms, f"any {noun}", f"every {singular}", f"each {singular}"))


def request(phrase: str, rng: np.random.Generator) -> str:
    """A whole request for a noun phrase: verb, politeness, place."""
    place = pick(rng, words("places")) if rng.random() < 0.25 else ""
    if rng.random() < 0.25:
        return f"{phrase}{place}"
    frame: str = pick(rng, words("frames"))
    return frame.format(verb=pick(rng, words("verbs")), np=f"{phrase}{place}")


def gibberish(rng: np.random.Generator) -> str:
    """What a cat on a keyboard types: one to three words of letters, or a row of digits."""
    if rng.random() < 0.2:
        return str(rng.integers(10_000))
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [
        "".join(pick(rng, letters) for _ in range(rng.integers(2, 9)))
        for _ in range(rng.integers(1, 4))
    ]
    return " ".join(words)


def typed(text: str, rng: np.random.Generator) -> str:
    """`text` with the case and punctuation of somebody's keyboard."""
    case = weighted(rng, {"as is": 0.45, "sentence": 0.4, "upper": 0.08, "title": 0.07})
    if case == "sentence":
        text = text[0].upper() + text[1:]
    elif case != "as is":
        text = text.upper() if case == "upper" else text.title()
    if text[-1] in "?!.":
        return text if rng.random() < 0.8 else text[:-1]
    return text + weighted(rng, {"": 0.55, ".": 0.3, "!": 0.1, " .": 0.02, "...": 0.03})


def reference(singular: str, plural: str, selection: Selection, rng: np.random.Generator) -> str:
    """Those instances of a thing that `selection` keeps: "the second dog from the left"."""
    by = selection.by
    sizes, side = words("sizes").get(by.value), words("sides").get(by.value)
    if selection.rank > 1:
        ordinal = pick(rng, words("ordinals", str(selection.rank)))
        if side:
            forms = [
                f"the {ordinal} {singular} from the {side}",
                f"the {ordinal} {singular} from the {side}",
                f"the {singular} that is {ordinal} from the {side}",
                f"{singular} number {selection.rank} from the {side}",
            ]
            return pick(rng, forms)
        size = pick(rng, sizes)
        return f"the {ordinal}{pick(rng, (' ', ' ', '-'))}{size} {singular}"
    if selection.count > 1:
        number = pick(rng, (words("numbers", str(selection.count)), str(selection.count)))
        forms = [f"the {number} {pick(rng, sizes or words('foremost', by.value))} {plural}"]
        if side:
            forms.append(f"the {number} {plural} {pick(rng, words('furthest', by.value))}")
            forms.append(f"the first {number} {plural} from the {side}")
        return pick(rng, forms)
    if sizes:
        size = pick(rng, sizes)
        forms = [f"the {size} {singular}"] * 4
        forms += [f"the {size} of the {plural}", f"the {singular} that is the {size}"]
        return pick(rng, forms)
    if by is SelectBy.NEAREST_CENTER:
        return f"the {singular} {pick(rng, words('central'))}"
    foremost, furthest = words("foremost", by.value), words("furthest", by.value)
    forms = [
        f"the {pick(rng, foremost)} {singular}",
        f"the {singular} {pick(rng, furthest)}",
        f"the {singular} that is {pick(rng, furthest)}",
        f"the first {singular} from the {side}",
        f"the {foremost[0]} of the {plural}",
        f"the {singular} {pick(rng, words('nearest'))} the {side}{pick(rng, ('', ' edge'))}",
    ]
    return pick(rng, forms)


def hinted(hint: str, rng: np.random.Generator) -> str:
    """A request for what `hint` ("a thing to sit on", "a thing that cuts") describes."""
    thing = pick(rng, ("something", "something", "anything", "a thing", "the thing", "things"))
    if hint.startswith("a thing to "):
        act = hint.removeprefix("a thing to ")
        questions = (f"what can i {act}?", f"what could you {act}?", f"what can one {act}?")
        clause = pick(rng, (f"to {act}", f"i can {act}", f"you can {act}", f"one could {act}"))
    else:
        act = hint.removeprefix("a thing that ")
        questions = (f"what {act}?", f"which thing {act}?", f"what in here {act}?")
        clause = f"that {act}" if thing != "things" else f"that {_bare(act)}"
    if rng.random() < 0.25:
        return pick(rng, questions)
    return request(f"{thing} {clause}", rng)


def _bare(clause: str) -> str:
    """ "opens a door" -> "open a door"."""
    verb, rest = clause.split(" ", 1)
    return f"{verb.removesuffix('s')} {rest}"
