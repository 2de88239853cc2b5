"""What is asked about a clip: the first step of a tracking evaluation, all of it from one seed.

The clip comes from one of the `worlds`, as an H.264 file. About each are asked:

- all its concepts at once, one phrase each, with the phrase of one that never appears;
- an instruction, the families taking turns from clip to clip.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from training.evaluation.worlds import ClipRenderer
from training.world.clip_files import write_mp4
from training.world.clip_instructions import ClipFamily, ClipInstruction, instruct
from training.world.clips import AnyClip, ClipWorld
from training.world.instructions import InstructionWriter
from training.world.vocabulary import Concept, Vocabulary

_GOPS = (12, 24, 60, 250)  # the last: one for the whole clip
_QUALITIES = (18, 28)  # x264's constant rate factor
_B_FRAMES = 3  # in a row at most
# A draw of an instruction may have no sound truth; another often has.
_TRIES = 8
_WORDS, _FILE, _INSTRUCTION = range(1, 4)


@dataclass(frozen=True, slots=True)
class ClipPhrase:
    """A phrase, and the ids of the clip's objects that it means; none for an absent one."""

    phrase: str
    targets: frozenset[int]


@dataclass(frozen=True, slots=True)
class ClipQuestionSet:
    """One clip's questions.

    Attributes:
        seed: of everything here.
        clip: with the truth; drawn anew wherever it is needed.
        content: the file's bytes.
        phrases: asked in one call; no two mean the same object.
        instruction: None where no draw had a sound truth.
    """

    seed: int
    clip: AnyClip
    content: bytes
    phrases: tuple[ClipPhrase, ...]
    instruction: ClipInstruction | None


@dataclass(frozen=True)
class ClipQuestionBuilder:
    """Makes question sets in the words of one vocabulary.

    Attributes:
        vocabulary: of the world.
        frame_count: frames a clip.
        renderer: of the clips.
    """

    vocabulary: Vocabulary
    frame_count: int = 60
    renderer: ClipRenderer = field(default_factory=ClipWorld)

    @cached_property
    def writer(self) -> InstructionWriter:
        """Writes the instructions."""
        return InstructionWriter(self.vocabulary)

    def questions(self, seed: int) -> ClipQuestionSet:
        """The questions of a seed, always the same; x264 may write the same frames otherwise."""
        clip = self.renderer.clip(seed, frame_count=self.frame_count)
        return ClipQuestionSet(
            seed,
            clip,
            _file(clip, np.random.default_rng([seed, _FILE])),
            tuple(self._phrases(clip, np.random.default_rng([seed, _WORDS]))),
            self._instruction(clip, seed),
        )

    def _phrases(self, clip: AnyClip, rng: np.random.Generator) -> Sequence[ClipPhrase]:
        names = dict.fromkeys(member.concept for member in clip.objects)
        phrases = []
        for name in names:
            targets = frozenset(one.id for one in clip.objects if one.concept == name)
            phrases.append(ClipPhrase(_worded(self.vocabulary.by_name[name], rng), targets))
        absent = [concept for concept in self.vocabulary.concepts if concept.name not in names]
        never = absent[int(rng.integers(len(absent)))]
        return [*phrases, ClipPhrase(_worded(never, rng), frozenset())]

    def _instruction(self, clip: AnyClip, seed: int) -> ClipInstruction | None:
        rng = np.random.default_rng([seed, _INSTRUCTION])
        families = list(ClipFamily)
        first = seed % len(families)
        for family in (*families[first:], *families[:first]):
            for _ in range(_TRIES):
                written = instruct(clip, rng, family, self.writer)
                if written is not None:
                    return written
        return None


def _worded(concept: Concept, rng: np.random.Generator) -> str:
    return concept.name if rng.random() < 0.5 else concept.plural


def _file(clip: AnyClip, rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    gop = int(rng.choice(_GOPS))
    quality = int(rng.integers(_QUALITIES[0], _QUALITIES[1] + 1))
    write_mp4(clip, buffer, gop=gop, quality=quality, b_frames=int(rng.integers(_B_FRAMES + 1)))
    return buffer.getvalue()
