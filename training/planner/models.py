"""Where a run begins, and what it leaves: checkpoints that `from_pretrained` loads.

Flow: nothing, a folder or a hub id -> `new_planner` or `load_planner` -> training -> `export`. The
tiny checkpoint and `google/gemma-4-*-it` take the same way.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import Gemma4ForConditionalGeneration
from transformers.utils import cached_file

from limelight.values import SelectBy
from services.planner.calls import Call, call_from_plan, format_call
from services.planner.engines.parts import check_vocabulary
from services.planner.prompt import plan_messages, review_messages
from services.replica.checkpoints import GEMMA4
from services.replica.loading import load_model
from training.planner.config import Shape, new_image_processor, new_model, widen_positions
from training.planner.preprocessing import Preprocessor
from training.planner.tokenizer import train_tokenizer
from training.world.instructions import Family, InstructionWriter
from training.world.scenes import random_scene
from training.world.splits import TRAINING
from training.world.vocabulary import Vocabulary

_PIECES = 1200
_SOUND = ("audio_tower", "embed_audio")
_SIGHT = ("vision_tower", "embed_vision")
# What vLLM and `Gemma4Processor` look for beside the parts that are saved one by one.
_KEPT = ("processor_config.json",)

# Layers that share another layer's keys and values lack those projections; of a mixture of experts
# the dense feed-forward is adapted. In the vision tower each projection is wrapped, to be clipped.
_LANGUAGE = r"(.*\.)?language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
_VISION = (
    r"(.*\.)?vision_tower\.encoder\.layers\.\d+\."
    r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.linear"
)


@dataclass(frozen=True)
class PlannerModel:
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


def new_planner(shape: Shape, seed: int = 0) -> PlannerModel:
    """A new tokenizer and an untrained tiny model that reads it."""
    vocabulary = Vocabulary.load()
    preprocessor = new_preprocessor(vocabulary)
    model = new_model(shape, preprocessor.tokenizer, seed=seed, alike=word_forms(vocabulary))
    return PlannerModel(model, preprocessor)


def load_planner(
    checkpoint: str,
    *,
    soft_tokens: int | None = None,
    rank: int = 0,
    vision: bool = False,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> PlannerModel:
    """A trained model and its own parts, to go on with.

    Args:
        checkpoint: folder or hub id.
        soft_tokens: an image's at most; by default as the checkpoint says.
        rank: of LoRA adapters; 0 trains the weights themselves.
        vision: whether the vision tower is trained, too. A tower for sound never is.
        dtype: of the weights. Adapters are float32 in any case.
        seed: of what starts at random.

    Raises:
        CheckpointError: there is no such checkpoint, it is not one that works, or a part of it is
            missing.
    """
    # The packed rows' masks are booleans, which only torch's own attention takes as such.
    model = load_model(
        Gemma4ForConditionalGeneration,
        checkpoint,
        GEMMA4,
        dtype=dtype,
        attn_implementation={"text_config": "sdpa"},
    )
    preprocessor = Preprocessor.load(checkpoint, soft_tokens)
    check_vocabulary(checkpoint, preprocessor.tokenizer, model)
    torch.manual_seed(seed)
    if soft_tokens is not None:
        widen_positions(model, soft_tokens * preprocessor.pooling)
        model.config.vision_config.default_output_length = soft_tokens
    if rank:
        return PlannerModel(model, preprocessor, checkpoint, adapt(model, rank, vision))
    for name in _SOUND if vision else (*_SOUND, *_SIGHT):
        if (part := getattr(model.model, name)) is not None:
            part.requires_grad_(False)
    return PlannerModel(model, preprocessor, checkpoint)


def adapt(model: Gemma4ForConditionalGeneration, rank: int, vision: bool = False) -> PeftModel:
    """Put adapters into `model`, in place, and freeze the rest.

    The model computes what it did before: one matrix of each pair starts at zero. The other starts
    at random, by torch's generator.

    Args:
        model: a checkpoint.
        rank: of the adapters; 8 to 32 is usual. Their scale is 2.
        vision: whether the vision tower gets adapters, too.

    Returns:
        The model with its adapters, for `merge` or `save_pretrained`; `model` itself goes on
        working and has them as well.
    """
    targets = f"{_LANGUAGE}|{_VISION}" if vision else _LANGUAGE
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets, bias="none"
    )
    return get_peft_model(model, config)


def merge(adapted: PeftModel) -> Gemma4ForConditionalGeneration:
    """The model with its adapters added into its own matrices; `adapted` is used up."""
    merged: Any = adapted.merge_and_unload(safe_merge=True)
    return merged


def export(planner: PlannerModel, out: Path, merged: bool = True) -> None:
    """Write a checkpoint with all that `from_pretrained` needs. A merged planner is used up.

    Args:
        planner: with the weights to be written.
        out: folder, made where it is missing.
        merged: add the adapters into the weights; otherwise only the adapters are written, which
            `PeftModel.from_pretrained` puts onto the checkpoint that they began from.
    """
    out.mkdir(parents=True, exist_ok=True)
    if planner.adapted is not None and not merged:
        planner.adapted.save_pretrained(out)
    else:
        model = planner.model if planner.adapted is None else merge(planner.adapted)
        model.save_pretrained(out)
        for name in _KEPT if planner.source else ():
            file = cached_file(
                planner.source,
                name,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
            if file is not None:
                shutil.copyfile(file, out / name)
    planner.preprocessor.tokenizer.save_pretrained(out)
    planner.preprocessor.image_processor.save_pretrained(out)


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
    """The parts of a new checkpoint, its tokenizer learned from sample instructions; always the
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
