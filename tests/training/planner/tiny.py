"""Small planners for tests: the tiny tokenizer with models of a few thousand weights."""

from functools import cache

import torch
from transformers import Gemma4Config, Gemma4ForConditionalGeneration, GemmaTokenizer

from training.planner.config import Shape, model_config, new_model
from training.planner.examples import ExampleBuilder
from training.planner.models import PlannerModel, new_preprocessor
from training.planner.preprocessing import Preprocessor
from training.planner.recipe import FINE_TUNING, SCRATCH, PlannerRecipe
from training.planner.scenery import PlannerScenes
from training.planner.task import PlannerTask
from training.world.vocabulary import Vocabulary

SHAPE = Shape(vision_width=32, vision_layers=1, text_width=32, text_layers=2, head_dim=16)
# The switches of the real checkpoints that this project's own tiny one leaves off, by size.
SWITCHES = {
    "tiny": {},
    # Per-layer embeddings; the last layers share keys and values and are twice as wide.
    "E2B": {
        "hidden_size_per_layer_input": 8,
        "num_kv_shared_layers": 2,
        "use_double_wide_mlp": True,
    },
    "31B": {
        "use_bidirectional_attention": "vision",
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 1,
        "global_head_dim": 32,
    },
    "26B-A4B": {
        "use_bidirectional_attention": "vision",
        "attention_k_eq_v": True,
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 16,
    },
}

# A tower for sound comes with the small ones.
_EARS = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "subsampling_conv_channels": [8, 8],
    "output_proj_dims": 32,
}


@cache
def preprocessor() -> Preprocessor:
    """The tiny checkpoint's tokenizer and image processor; learned once a test run."""
    return new_preprocessor(Vocabulary.load())


def tokenizer() -> GemmaTokenizer:
    """The tiny checkpoint's tokenizer."""
    return preprocessor().tokenizer


def builder(labeled: bool = True) -> ExampleBuilder:
    """Examples about sticker world."""
    return ExampleBuilder(PlannerScenes(Vocabulary.load()), preprocessor(), labeled)


def tiny_task(recipe: PlannerRecipe = SCRATCH, seed: int = 3) -> PlannerTask:
    """A new model's task on sticker world; with a head if the recipe has dense targets."""
    return PlannerTask(planner_model(seed), recipe, builder(recipe.dense))


def task_of(model: Gemma4ForConditionalGeneration) -> PlannerTask:
    """A model's task without a head."""
    return PlannerTask(PlannerModel(model, preprocessor()), FINE_TUNING, builder(labeled=False))


def planner_model(seed: int = 1) -> PlannerModel:
    """A new model with its parts."""
    return PlannerModel(new_model(SHAPE, preprocessor().tokenizer, seed=seed), preprocessor())


def real_model(size: str, window: int = 24) -> Gemma4ForConditionalGeneration:
    """A random model with the switches of a real size, and a window that the rows overrun."""
    config = model_config(SHAPE, preprocessor().tokenizer).to_dict()
    text = config.pop("text_config")
    for name in ("per_layer_config", "layer_types"):
        text.pop(name, None)
    text |= {
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "global_head_dim": 16,
        "sliding_window": window,
        "final_logit_softcapping": 3.0,
        **SWITCHES[size],
    }
    vision = config.pop("vision_config")
    vision |= {"use_clipped_linears": size == "E2B", "standardize": size != "E2B"}
    config["audio_config"] = _EARS if size == "E2B" else None
    torch.manual_seed(6)
    return Gemma4ForConditionalGeneration(
        Gemma4Config(text_config=text, vision_config=vision, **config)
    )
