"""Checkpoints of full size with random weights: the cost is the real one, the answers mean nothing.

No weights have to be downloaded, and two implementations can be held against each other.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Sam3Config,
    Sam3Model,
)

# google/gemma-4-E4B as its model card describes it; the vision tower is the library's default.
_E4B_LAYERS = 42
_E4B_TEXT = {
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": _E4B_LAYERS,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "num_kv_shared_layers": 18,
    "hidden_size_per_layer_input": 256,
    "layer_types": [
        "full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(_E4B_LAYERS)
    ],
}


def save_sam3(folder: Path, device: str, seed: int = 0) -> None:
    """Write a `Sam3Model` of the size of facebook/sam3, in bfloat16."""
    torch.manual_seed(seed)
    with torch.device(device):
        model = Sam3Model(Sam3Config())
    model.to(torch.bfloat16).save_pretrained(folder)


def gemma_e4b(device: str, special_ids: dict[str, int], seed: int = 0) -> Any:
    """A Gemma 4 of the size of E4B without its audio tower, in bfloat16.

    Args:
        device: where it is made.
        special_ids: fields of the configuration that name tokens of the tokenizer used with it.
        seed: of the weights.
    """
    torch.manual_seed(seed)
    config = Gemma4Config(
        text_config=dict(_E4B_TEXT), vision_config={}, audio_config=None, **special_ids
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return Gemma4ForConditionalGeneration(config).eval()
    finally:
        torch.set_default_dtype(before)
