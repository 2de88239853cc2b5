"""LoRA: train two thin matrices beside each large one, and leave the large ones alone.

Flow: checkpoint -> `adapt` -> `services.stickers.planner.loop` -> `merge`, or the adapter as it is.
The adapters (Hu et al., 2021, by the `peft` library) lie on the projections of attention and
feed-forward in the language model's layers: how a plan is said, and which of the seen things it
names. The vision tower sees well enough and stays as it is, unless asked for; embeddings, norms,
per-layer embeddings and a mixture's experts always do.
"""

from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import Gemma4ForConditionalGeneration

# Layers that share another layer's keys and values have none of their own; of a mixture of experts
# the dense feed-forward is adapted. In the vision tower each projection is wrapped, to be clipped.
_LANGUAGE = r"(.*\.)?language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
_VISION = (
    r"(.*\.)?vision_tower\.encoder\.layers\.\d+\."
    r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.linear"
)


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
