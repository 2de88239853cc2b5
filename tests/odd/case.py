"""What a case of the corpus is: an odd input made by code, what is right for it, and how to see."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """One odd input.

    Attributes:
        name: the input in words, unique in the corpus.
        right: what the product ought to make of it, in words.
        see: makes the input in the empty folder it is given, tries it through the product's own
            functions, and returns what was seen in words; the case holds when they equal `right`.
    """

    name: str
    right: str
    see: Callable[[Path], str]
