"""Where a run begins, and what it leaves: checkpoints that `from_pretrained` loads.

Flow: nothing, a folder or a hub id -> `new_pupil` or `load_pupil` -> training -> `export`. The
tiny checkpoint and `google/gemma-4-*-it` take the same way.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Gemma4ForConditionalGeneration
from transformers.utils import cached_file

from services.domain import SelectBy
from services.planner.calls import Call, call_from_plan, format_call
from services.planner.prompt import plan_messages, review_messages
from services.stickers.instructions import Family, InstructionWriter
from services.stickers.planner.adapters import adapt, merge
from services.stickers.planner.config import (
    Shape,
    new_image_processor,
    new_model,
    widen_positions,
)
from services.stickers.planner.preprocessing import Preprocessor
from services.stickers.planner.tokenizer import train_tokenizer
from services.stickers.scenes import random_scene
from services.stickers.splits import TRAINING
from services.stickers.vocabulary import Vocabulary

_PIECES = 1200
_SOUND = ("audio_tower", "embed_audio")
_SIGHT = ("vision_tower", "embed_vision")
# What vLLM and `Gemma4Processor` look for beside the parts that are saved one by one.
_KEPT = ("processor_config.json",)


@dataclass(frozen=True)
class Pupil:
    """What is trained: a model, and the parts that it reads with.

    Attributes:
        model: with its adapters, if it has any.
        preprocessor: of the same checkpoint.
        source: the checkpoint it began from; empty for a new one.
        adapted: the model as `peft` knows it; None where all its weights are trained.
    """

    model: Gemma4ForConditionalGeneration
    preprocessor: Preprocessor
    source: str = ""
    adapted: Any = None


def new_pupil(shape: Shape, seed: int = 0) -> Pupil:
    """A new tokenizer and an untrained tiny model that reads it."""
    vocabulary = Vocabulary.load()
    preprocessor = new_preprocessor(vocabulary)
    model = new_model(shape, preprocessor.tokenizer, seed=seed, alike=word_forms(vocabulary))
    return Pupil(model, preprocessor)


def load_pupil(
    checkpoint: str,
    *,
    soft_tokens: int | None = None,
    rank: int = 0,
    vision: bool = False,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Pupil:
    """A trained model and its own parts, to go on with.

    Args:
        checkpoint: folder or hub id.
        soft_tokens: at most so many an image, whatever it had before; by default as it was.
        rank: of LoRA adapters; 0 trains the weights themselves.
        vision: whether the vision tower is trained, too. A tower for sound never is.
        dtype: of the weights. Adapters are float32 in any case.
        seed: of what starts at random.

    Raises:
        OSError: there is no such checkpoint, or a part of it is missing.
    """
    # The packed rows' masks are booleans, which only torch's own attention takes as such.
    model = Gemma4ForConditionalGeneration.from_pretrained(
        checkpoint, dtype=dtype, attn_implementation={"text_config": "sdpa"}
    )
    preprocessor = Preprocessor.load(checkpoint, soft_tokens)
    torch.manual_seed(seed)
    if soft_tokens is not None:
        widen_positions(model, soft_tokens * preprocessor.pooling)
        model.config.vision_config.default_output_length = soft_tokens
    if rank:
        return Pupil(model, preprocessor, checkpoint, adapt(model, rank, vision))
    for name in _SOUND if vision else (*_SOUND, *_SIGHT):
        if (part := getattr(model.model, name)) is not None:
            part.requires_grad_(False)
    return Pupil(model, preprocessor, checkpoint)


def export(pupil: Pupil, out: Path, merged: bool = True) -> None:
    """Write a checkpoint with all that `from_pretrained` needs. A merged pupil is used up.

    Args:
        pupil: with the weights to be written.
        out: folder, made where it is missing.
        merged: add the adapters into the weights; otherwise only the adapters are written, which
            `PeftModel.from_pretrained` puts onto the checkpoint that they began from.
    """
    out.mkdir(parents=True, exist_ok=True)
    if pupil.adapted is not None and not merged:
        pupil.adapted.save_pretrained(out)
    else:
        model = pupil.model if pupil.adapted is None else merge(pupil.adapted)
        model.save_pretrained(out)
        for name in _KEPT if pupil.source else ():
            file = cached_file(
                pupil.source,
                name,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
            if file is not None:
                shutil.copyfile(file, out / name)
    pupil.preprocessor.tokenizer.save_pretrained(out)
    pupil.preprocessor.image_processor.save_pretrained(out)


def word_forms(vocabulary: Vocabulary) -> list[tuple[str, ...]]:
    """The forms in which each word of an answer comes in a question: spaced, and in the plural."""
    forms: dict[str, tuple[str, ...]] = {}
    for concept in vocabulary.concepts:
        for word, plural in zip(concept.name.split(), concept.plural.split(), strict=True):
            forms[word] = (word, f" {word}", plural, f" {plural}")
    for by in SelectBy:
        forms[by.value] = (by.value, f" {by.value}")
    return list(forms.values())


def new_preprocessor(vocabulary: Vocabulary) -> Preprocessor:
    """The parts of a new checkpoint, its tokenizer learnt from sample instructions; always the
    same one.
    """
    writer = InstructionWriter(vocabulary)
    rng = np.random.default_rng(TRAINING[-1])
    prose, calls = [], []
    for _ in range(300):
        scene = random_scene(rng, size=(96, 96))
        for family in list(Family) * 4:
            instruction = writer.generate(scene, rng, family)
            if instruction is not None:
                prose.append(instruction.text.lower())
                calls.append(format_call(call_from_plan(instruction.plan)))
    # What every conversation holds, often enough to become whole pieces.
    for concept in writer.vocabulary.concepts:
        prose += [f"the {concept.name}, {concept.plural}"] * 30
        calls += [format_call(Call("plan", {"include": [concept.name, concept.plural]}))] * 30
    plan = plan_messages("", [("", "a")])[-1]["content"]
    review = review_messages("", "", 1)[-1]["content"]
    prose += [str(parts[-1]["text"]).lower() for parts in (plan, review)] * 50  # type: ignore[index]
    calls += [f"<|turn>{role}\n<turn|>\n" for role in ("system", "user", "model")] * 50
    calls += [f"<|tool>declaration:{name}{{}}<tool|>" for name in ("plan", "verdict")] * 50
    calls += [format_call(Call("verdict", {"accept": truth})) for truth in (True, False)] * 50
    calls += ['<|tool_call>call:plan{include:[<|"|>x<|"|>],review:true}<tool_call|>'] * 50
    return Preprocessor(train_tokenizer(prose, calls, _PIECES), new_image_processor())
