"""How people say it: the words that instructions are made of, and the phrases made of them.

Flow: `services.stickers.instructions` decides what is asked and what its answer is; the functions
here put it into words. Every choice comes from the generator that is passed in, and none of them
changes what is meant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from services.domain import SelectBy, Selection
from services.stickers.plurals import plain_plural

T = TypeVar("T")


@dataclass(frozen=True)
class CategoryWords:
    """What people call the things of one category.

    Attributes:
        whole: names for all of them.
        singular, plural: for one and for some, as they can be counted.
        mass: the one of `whole` that has no plural ("food"), or empty.
    """

    whole: tuple[str, ...]
    singular: str
    plural: str
    mass: str = ""


def category_words(category: str) -> CategoryWords | None:
    """The words for a category; None for one that nobody asks for by name.

    Known are sticker world's categories and COCO's supercategories; others are taken for a common
    noun in the singular.
    """
    if category in _NO_KINDS:
        return None
    plural = plain_plural(category)
    return _CATEGORIES.get(category, CategoryWords((plural,), category, plural))


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


def request(noun_phrase: str, rng: np.random.Generator) -> str:
    """A whole request for `noun_phrase`: verb, politeness, place."""
    place = pick(rng, _PLACES) if rng.random() < 0.25 else ""
    if rng.random() < 0.25:
        return f"{noun_phrase}{place}"
    frame = pick(rng, _FRAMES)
    return frame.format(verb=pick(rng, _VERBS), np=f"{noun_phrase}{place}")


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
    if selection.rank > 1:
        ordinal = pick(rng, _ORDINALS[selection.rank])
        if by in _SIDES:
            forms = [
                f"the {ordinal} {singular} from the {_SIDES[by]}",
                f"the {ordinal} {singular} from the {_SIDES[by]}",
                f"the {singular} that is {ordinal} from the {_SIDES[by]}",
                f"{singular} number {selection.rank} from the {_SIDES[by]}",
            ]
            return pick(rng, forms)
        size = pick(rng, _SIZES[by])
        return f"the {ordinal}{pick(rng, (' ', ' ', '-'))}{size} {singular}"
    if selection.count > 1:
        number = pick(rng, (_NUMBERS[selection.count], str(selection.count)))
        before = _SIZES[by] if by in _SIZES else _FOREMOST[by]
        forms = [f"the {number} {pick(rng, before)} {plural}"]
        if by in _SIDES:
            forms.append(f"the {number} {plural} {pick(rng, _FURTHEST[by])}")
            forms.append(f"the first {number} {plural} from the {_SIDES[by]}")
        return pick(rng, forms)
    if by in _SIZES:
        size = pick(rng, _SIZES[by])
        forms = [f"the {size} {singular}"] * 4
        forms += [f"the {size} of the {plural}", f"the {singular} that is the {size}"]
        return pick(rng, forms)
    if by is SelectBy.NEAREST_CENTER:
        return f"the {singular} {pick(rng, _CENTRAL)}"
    forms = [
        f"the {pick(rng, _FOREMOST[by])} {singular}",
        f"the {singular} {pick(rng, _FURTHEST[by])}",
        f"the {singular} that is {pick(rng, _FURTHEST[by])}",
        f"the first {singular} from the {_SIDES[by]}",
        f"the {_FOREMOST[by][0]} of the {plural}",
        f"the {singular} {pick(rng, _NEAREST)} the {_SIDES[by]}{pick(rng, ('', ' edge'))}",
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


_NO_KINDS = frozenset({"object", "indoor", "outdoor"})
_CATEGORIES: Mapping[str, CategoryWords] = {
    "person": CategoryWords(("people", "people", "persons"), "person", "people"),
    "food": CategoryWords(("food", "food items", "foods"), "food item", "food items", "food"),
    "sports": CategoryWords(
        ("sports equipment", "sports gear"),
        "piece of sports equipment",
        "pieces of sports equipment",
        "sports equipment",
    ),
    "kitchen": CategoryWords(
        ("kitchenware", "kitchen items"), "kitchen item", "kitchen items", "kitchenware"
    ),
    "furniture": CategoryWords(
        ("furniture", "pieces of furniture"),
        "piece of furniture",
        "pieces of furniture",
        "furniture",
    ),
    "electronic": CategoryWords(
        ("electronic devices", "electronics"), "electronic device", "electronic devices"
    ),
}
THINGS = (("thing", "things"), ("object", "objects"), ("item", "items"), ("sticker", "stickers"))
# Head nouns that people use by themselves: "cream" for ice cream, say, is none of them.
HEADS = frozenset({"apple", "book", "car", "cup", "clock", "officer", "ball"})
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
SUBJECT_PHRASES = (
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
SUBJECT_REQUESTS = (
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
EVERYTHING = (
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
ALL_THAT = ("everything that is", "everything which is", "all that is", "anything that is")
_NEAREST = ("closest to", "nearest to", "nearest")
BUT = (
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
SPOILS = (
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
DEAREST = (
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
NONSENSE = (
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
