"""The shape of the tiny Gemma 4: every switch of the architecture that costs more than it brings
at this size is off (per-layer embeddings, shared keys and values, experts, audio).

Flow: `Shape` -> `model_config` -> an untrained `Gemma4ForConditionalGeneration`. A picture becomes
at most 560 patches of 16 x 16 pixels (about 378 x 378 pixels in all), pooled 2 x 2 to at most 140
soft tokens. With 70, the smallest number that Gemma 4's image processor admits, a third of the
smallest stickers were overlooked.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import (
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4TextConfig,
    Gemma4VisionConfig,
    GenerationConfig,
    PreTrainedTokenizerBase,
)
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from training.planner.tokenizer import BOS, EOS, PAD, TOOL_RESPONSE, TURN_END

MAX_SOFT_TOKENS = 140
PATCH = 16
POOLING = 2
# About 1 / sqrt(width): weights of the stock 0.02 would be overrun by the first steps.
_INITIAL = 0.08


@dataclass(frozen=True)
class Shape:
    """Widths and depths; the defaults are the shipped checkpoint's."""

    vision_width: int = 128
    vision_layers: int = 5
    text_width: int = 160
    text_layers: int = 4
    head_dim: int = 32


def model_config(shape: Shape, tokenizer: PreTrainedTokenizerBase) -> Gemma4Config:
    """The configuration of a model of `shape` that reads `tokenizer`'s ids."""

    def token(text: str) -> int:
        return int(tokenizer.convert_tokens_to_ids(text))

    text = Gemma4TextConfig(
        vocab_size=len(tokenizer),
        vocab_size_per_layer_input=len(tokenizer),
        hidden_size=shape.text_width,
        intermediate_size=3 * shape.text_width,
        num_hidden_layers=shape.text_layers,
        num_attention_heads=shape.text_width // shape.head_dim,
        num_key_value_heads=shape.text_width // shape.head_dim,
        head_dim=shape.head_dim,
        global_head_dim=shape.head_dim,
        layer_types=[
            "full_attention" if index % 2 else "sliding_attention"
            for index in range(shape.text_layers)
        ],
        max_position_embeddings=2048,
        hidden_size_per_layer_input=0,
        initializer_range=_INITIAL,
        pad_token_id=token(PAD),
        eos_token_id=token(EOS),
        bos_token_id=token(BOS),
    )
    vision = Gemma4VisionConfig(
        hidden_size=shape.vision_width,
        intermediate_size=2 * shape.vision_width,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=shape.vision_width // shape.head_dim,
        num_key_value_heads=shape.vision_width // shape.head_dim,
        head_dim=shape.head_dim,
        initializer_range=_INITIAL,
        patch_size=PATCH,
        pooling_kernel_size=POOLING,
        # The longest row of patches: an image that is one soft token high.
        position_embedding_size=MAX_SOFT_TOKENS * POOLING,
        default_output_length=MAX_SOFT_TOKENS,
    )
    return Gemma4Config(
        text_config=text,
        vision_config=vision,
        audio_config=None,
        boi_token_id=token("<|image>"),
        eoi_token_id=token("<image|>"),
        image_token_id=token("<|image|>"),
        video_token_id=token("<|video|>"),
        boa_token_id=token("<|audio>"),
        eoa_token_index=token("<audio|>"),
        audio_token_id=token("<|audio|>"),
    )


def new_model(
    shape: Shape, tokenizer: PreTrainedTokenizerBase, seed: int, alike: Sequence[Sequence[str]] = ()
) -> Gemma4ForConditionalGeneration:
    """An untrained model, the same for the same seed.

    Args:
        shape: its widths and depths.
        tokenizer: whose ids it reads.
        seed: of the random weights.
        alike: groups of words whose pieces start from nearly one embedding. Answers repeat words
            of the question in another form ("the dogs" becomes "dog"), and the output layer is
            tied to the embeddings: so looking at the word is nearly saying it.
    """
    torch.manual_seed(seed)
    model = Gemma4ForConditionalGeneration(model_config(shape, tokenizer))
    embedder = model.model.vision_tower.patch_embedder
    with torch.no_grad():
        # Stock weights start all positions at one, against which the pixels would not be seen.
        embedder.position_embedding_table.normal_(0.0, 0.1)
        embedder.input_proj.weight.normal_(0.0, 1.0 / math.sqrt(embedder.input_proj.in_features))
    with torch.no_grad():
        liken(model.get_input_embeddings().weight, tokenizer, alike)
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=96,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=[
            tokenizer.convert_tokens_to_ids(ending) for ending in (EOS, TURN_END, TOOL_RESPONSE)
        ],
    )
    return model


def liken(
    embeddings: torch.Tensor, tokenizer: PreTrainedTokenizerBase, alike: Sequence[Sequence[str]]
) -> None:
    """Move the pieces of each group near the first word's, in place; split words stay as they are.

    Args:
        embeddings: float ``[pieces, width]``.
        tokenizer: whose ids index them.
        alike: groups of words, with and without a space before them.
    """
    for words in alike:
        pieces = [tokenizer(word, add_special_tokens=False).input_ids for word in words]
        anchor, *others = (ids[0] if len(ids) == 1 else None for ids in pieces)
        for other in others:
            if anchor is not None and other not in (None, anchor):
                embeddings[other] = 0.8 * embeddings[anchor] + 0.6 * embeddings[other]


@torch.no_grad()
def widen_positions(model: Gemma4ForConditionalGeneration, rows: int) -> None:
    """Give the vision tower's position table `rows` rows, in place: the old ones, then small noise.

    Args:
        model: of any size; one whose table is long enough stays as it is.
        rows: patches in the longest row that an image may have.
    """
    embedder = model.model.vision_tower.patch_embedder
    table = embedder.position_embedding_table
    missing = rows - table.shape[1]
    if missing <= 0:
        return
    more = 0.1 * torch.randn(table.shape[0], missing, table.shape[2])
    embedder.position_embedding_table = torch.nn.Parameter(torch.cat([table, more], 1))
    embedder.position_embedding_size = rows
    model.config.vision_config.position_embedding_size = rows


def new_image_processor() -> Gemma4ImageProcessorPil:
    """Gemma 4's own image processor, at this model's patch size and budget."""
    return Gemma4ImageProcessorPil(
        patch_size=PATCH, pooling_kernel_size=POOLING, max_soft_tokens=MAX_SOFT_TOKENS
    )
