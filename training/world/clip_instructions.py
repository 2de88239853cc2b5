"""Instructions about a clip and their truth over time.

The words, the plan and the truth on the key frame are `instructions.py`'s; here that truth is
carried through the clip. It is a set of objects, each wanted wherever enough of it can be seen:

- a phrase means every object of its concepts, also those that enter after the key frame;
- what refers ("the second dog from the left") is decided on the key frame and then held by
  identity;
- "everything" means all objects, and is asked only where no concept enters after the key frame, as
  the plan cannot name what it has not seen;
- what is absent never appears in the clip.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from limelight.values import Plan
from training.world.clips import AnyClip, scene_of
from training.world.instructions import Family, Instruction, InstructionWriter
from training.world.phrases import PhraseBook
from training.world.scenes import Scene


class ClipFamily(StrEnum):
    """The kinds of instruction that clips are asked with."""

    PHRASE = "phrase"
    REFERENTIAL = "referential"
    ALL = "all"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class ClipInstruction:
    """What a user asks of a clip.

    Attributes:
        family: its kind.
        text: as typed.
        plan: the canonical plan on the key frame.
        key_frame: index of the frame on which the plan is made.
        targets: ids of the objects wanted, in every frame that shows enough of them.
    """

    family: ClipFamily
    text: str
    plan: Plan
    key_frame: int
    targets: frozenset[int]


def instruct(
    clip: AnyClip,
    rng: np.random.Generator,
    family: ClipFamily,
    writer: InstructionWriter,
    key_frame: int = 0,
) -> ClipInstruction | None:
    """An instruction about a clip, or None where this draw has no sound truth.

    Args:
        clip: of either renderer.
        rng: source of all choices.
        family: its kind.
        writer: of the world's vocabulary.
        key_frame: index of the frame on which the plan is made.
    """
    scene, ids = scene_of(clip, key_frame)
    written = _written(writer, scene, rng, family)
    if written is None:
        return None
    phrases = writer.phrases
    concepts = {member.id: member.concept for member in clip.objects}
    meant = _meant(written.plan, phrases)
    named = frozenset(id for id, name in concepts.items() if _index(writer, name) in meant)
    match family:
        case ClipFamily.PHRASE:
            targets = named
        case ClipFamily.REFERENTIAL:
            targets = frozenset(ids[index] for index in written.truth)
        case ClipFamily.ALL:
            if named != frozenset(concepts):
                return None
            targets = named
        case ClipFamily.ABSENT:
            if named:
                return None
            targets = frozenset()
    return ClipInstruction(family, written.text, written.plan, key_frame, targets)


def _written(
    writer: InstructionWriter, scene: Scene, rng: np.random.Generator, family: ClipFamily
) -> Instruction | None:
    match family:
        case ClipFamily.PHRASE:
            return writer.generate(scene, rng, Family.PHRASE)
        case ClipFamily.REFERENTIAL:
            return writer.generate(scene, rng, Family.REFERENTIAL)
        case ClipFamily.ALL:
            return writer.everything(scene, rng)
        case ClipFamily.ABSENT:
            return writer.generate(scene, rng, Family.ABSENT)


def _meant(plan: Plan, phrases: PhraseBook) -> frozenset[int]:
    """Indices of the concepts that a plan without exclusions includes."""
    found = [phrases.matching_concepts(query.phrase) for query in plan.include]
    return frozenset[int]().union(*found)


def _index(writer: InstructionWriter, name: str) -> int:
    return writer.vocabulary.by_name[name].index
