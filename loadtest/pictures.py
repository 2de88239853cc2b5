"""Pictures to ask about: scenes of sticker world as JPEG files, and any number of distinct copies.

The services know a picture by the hash of its file. A copy with a comment of its own is therefore
new to every cache, while its pixels, and so the work it makes, are those of the original.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from training.world.scenes import random_scene
from training.world.vocabulary import Vocabulary

_APP0, _COMMENT = b"\xff\xe0", b"\xff\xfe"


@dataclass(frozen=True)
class Picture:
    """A JPEG file and phrases to ask about it: first the concepts in it, then others."""

    content: bytes
    phrases: tuple[str, ...]

    def copy(self, number: int) -> "Picture":
        """The same picture in a file that differs from every other number's."""
        return Picture(_commented(self.content, f"copy {number}".encode()), self.phrases)


@dataclass(frozen=True)
class Album:
    """The pictures of some seeds."""

    seeds: Sequence[int]

    @cached_property
    def originals(self) -> tuple[Picture, ...]:
        """One picture a seed; drawn at the first use, some 50 ms each."""
        return tuple(_draw(seed) for seed in self.seeds)

    def new(self, number: int) -> Picture:
        """A picture that no other number has."""
        return self.originals[number % len(self.originals)].copy(number)


def _draw(seed: int) -> Picture:
    scene = random_scene(np.random.default_rng(seed))
    buffer = io.BytesIO()
    Image.fromarray(scene.image).save(buffer, "JPEG", quality=90)
    there = {instance.concept.name: None for instance in scene.instances}
    others = {concept.name: None for concept in Vocabulary.load().concepts}
    return Picture(buffer.getvalue(), tuple({**there, **others}))


def _commented(content: bytes, text: bytes) -> bytes:
    """A JPEG file with a comment after its JFIF header (ITU T.81 B.2.4.5, JFIF 1.02)."""
    at = 2
    if content[2:4] == _APP0:
        at += 2 + int.from_bytes(content[4:6], "big")
    segment = _COMMENT + (2 + len(text)).to_bytes(2, "big") + text
    return content[:at] + segment + content[at:]
