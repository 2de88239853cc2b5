"""Models to start from and to hand on: new, opened from disk, and exported."""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer, PreTrainedTokenizerBase, Sam3Model

from services.errors import CheckpointError
from services.replica.checkpoints import SAM3
from services.replica.loading import load_model, load_tokenizer
from training.segmenter.config import MAX_TEXT_TOKENS, tiny_config
from training.segmenter.dense import center_code
from training.segmenter.tokenizer import special_tokens, train_tokenizer
from training.world.phrases import PhraseBook
from training.world.wording import words

_VOCABULARY_SIZE = 1024
_LEAST_TOKENS = 256  # a byte-level tokenizer has at least all bytes
_POSITION_STRENGTH = 3.0  # patches have a standard deviation of 1.5 once they are trained


def new_tokenizer(book: PhraseBook) -> CLIPTokenizer:
    """The tokenizer, trained anew; the same phrases give the same tokens."""
    return train_tokenizer(
        sorted(book.meanings),
        [*words("unknown"), "the", "a", "all", "visual"],
        _VOCABULARY_SIZE,
        MAX_TEXT_TOKENS,
    )


def new_model(tokenizer: CLIPTokenizer, seed: int) -> Sam3Model:
    """A model with random weights, reproducible from the seed.

    Four things start better than transformers leaves them: the queries' reference boxes lie
    on a grid over the picture instead of all in its center, boxes start at their references,
    queries start by looking into their boxes instead of everywhere, and tokens know where they
    are (a small random position embedding drowns in the patches, and rotary ones are relative).
    """
    torch.manual_seed(seed)
    model = Sam3Model(tiny_config(len(tokenizer), special_tokens(tokenizer)))
    decoder = model.detr_decoder
    side = round(decoder.config.num_queries**0.5)
    points = (torch.arange(side) + 0.5) / side
    grid = torch.cartesian_prod(points, points)
    boxes = torch.cat([grid, torch.full_like(grid, 0.25)], 1)
    with torch.no_grad():
        decoder.reference_points.weight[: len(boxes)] = boxes.logit()
        last: nn.Linear = decoder.box_head.layer3
        last.weight.zero_()
        last.bias.zero_()
        position = model.vision_encoder.backbone.embeddings.position_embeddings
        position.copy_(_positions(*position.shape[1:])[None])
    for embedding in (decoder.box_rpb_embed_x, decoder.box_rpb_embed_y):
        look_inside(embedding.layer1, embedding.layer2)
    return model


def _positions(tokens: int, width: int) -> Tensor:
    """Codes of the tokens' places, turned at random into the model's width, ``[t, w]``."""
    side = round(tokens**0.5)
    points = (torch.arange(side) + 0.5) / side
    codes = center_code(torch.stack(torch.meshgrid(points, points, indexing="xy"), -1))
    codes = codes.flatten(0, 1)
    directions, _ = torch.linalg.qr(torch.randn(width, codes.shape[1]))
    positions: Tensor = _POSITION_STRENGTH * codes @ directions.T
    return positions


@torch.no_grad()
def look_inside(first: nn.Linear, second: nn.Linear) -> None:
    """Set a relative position embedding so that attention falls off outside the box.

    Its input is the distance of a cell to the box's low and high edge, on a log scale; two
    hidden units take how far the cell lies outside either, and each head but the last
    penalizes that in its own degree.

    Args:
        first, second: the layers of the decoder's embedding of one axis; changed in place.
    """
    first.bias.zero_()
    first.weight[:2] = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    second.weight.zero_()
    slopes = 8.0 * 0.5 ** torch.arange(second.out_features)
    slopes[-1] = 0
    second.weight[:, :2] = -slopes[:, None]


def open_checkpoint(source: str) -> tuple[Sam3Model, PreTrainedTokenizerBase]:
    """Any SAM 3 and its own tokenizer, to fine-tune: architecture and size are the checkpoint's.

    Args:
        source: folder or hub id ("facebook/sam3"); one saved as `sam3_video` gives its detector.

    Raises:
        CheckpointError: there is no such checkpoint, it is not one that works, or its tokenizer is
            missing or another model's.
    """
    model = load_model(Sam3Model, source, SAM3, dtype=torch.float32)
    tokenizer = load_tokenizer(source)
    # transformers makes up an empty tokenizer, to which all words are alike, where there is none.
    known, read = len(tokenizer), model.config.text_config.vocab_size
    if not _LEAST_TOKENS <= known <= read:
        what = "no tokenizer.json" if known < _LEAST_TOKENS else f"a tokenizer of {known} tokens"
        raise CheckpointError(f"{source} has {what}; the model reads {read} tokens")
    return model, tokenizer


def export(model: Sam3Model, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer's files."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
