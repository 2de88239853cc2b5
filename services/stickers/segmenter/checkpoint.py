"""Making the tiny model and writing it in the form that `Sam3Model.from_pretrained` reads."""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer, Sam3Model

from services.stickers.phrases import PhraseBook
from services.stickers.segmenter.config import MAX_TEXT_TOKENS, tiny_config
from services.stickers.segmenter.detection import centre_code
from services.stickers.segmenter.sampling import UNKNOWN
from services.stickers.segmenter.tokenizer import special_tokens, train_tokenizer

_VOCABULARY_SIZE = 1024
_POSITION_STRENGTH = 3.0  # patches have a standard deviation of 1.5 once they are trained


def new_tokenizer(book: PhraseBook) -> CLIPTokenizer:
    """The tokenizer, trained anew; the same phrases give the same tokens."""
    return train_tokenizer(
        sorted(book.meanings),
        [*UNKNOWN, "the", "a", "all", "visual"],
        _VOCABULARY_SIZE,
        MAX_TEXT_TOKENS,
    )


def new_model(tokenizer: CLIPTokenizer, seed: int) -> Sam3Model:
    """A model with random weights, reproducible from the seed.

    Four things start better than transformers leaves them: the queries' reference boxes lie
    on a grid over the picture instead of all in its centre, boxes start at their references,
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
    codes = centre_code(torch.stack(torch.meshgrid(points, points, indexing="xy"), -1))
    codes = codes.flatten(0, 1)
    directions, _ = torch.linalg.qr(torch.randn(width, codes.shape[1]))
    positions: Tensor = _POSITION_STRENGTH * codes @ directions.T
    return positions


@torch.no_grad()
def look_inside(first: nn.Linear, second: nn.Linear) -> None:
    """Set a relative position embedding so that attention falls off outside the box.

    Its input is the distance of a cell to the box's low and high edge, on a log scale; two
    hidden units take how far the cell lies outside either, and each head but the last
    penalises that in its own degree.

    Args:
        first, second: the layers of the decoder's embedding of one axis; changed in place.
    """
    first.bias.zero_()
    first.weight[:2] = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    second.weight.zero_()
    slopes = 8.0 * 0.5 ** torch.arange(second.out_features)
    slopes[-1] = 0
    second.weight[:, :2] = -slopes[:, None]


def go_on_from(checkpoint: str, model: Sam3Model) -> None:
    """Give a new model the weights of a trained one, which may have coarser masks or fewer queries.

    Finer levels of the neck are added silent and the mask decoder's new convolutions pass on what
    they get, so that the model starts about as good as the old one. A new query starts as the
    old one whose reference box lies nearest.

    Args:
        checkpoint: folder or hub id; the same widths and depths.
        model: new, changed in place.
    """
    old = Sam3Model.from_pretrained(checkpoint, dtype=torch.float32)
    neck = model.vision_encoder.neck.fpn_layers
    more = len(neck) - len(old.vision_encoder.neck.fpn_layers)
    own = model.state_dict()
    for name, weight in old.state_dict().items():
        if name.startswith("vision_encoder.neck.fpn_layers."):
            level, rest = name.removeprefix("vision_encoder.neck.fpn_layers.").split(".", 1)
            name = f"vision_encoder.neck.fpn_layers.{int(level) + more}.{rest}"
        if own[name].shape == weight.shape:
            own[name] = weight
    references = old.detr_decoder.reference_points.weight.sigmoid()
    queries = own["detr_decoder.reference_points.weight"].sigmoid()
    nearest = torch.cdist(queries[:, :2], references[:, :2]).argmin(1)
    own["detr_decoder.query_embed.weight"] = old.detr_decoder.query_embed.weight[nearest].detach()
    model.load_state_dict(own)
    with torch.no_grad():
        for level in range(more):
            neck[level].proj2.weight.mul_(0.1)
            neck[level].proj2.bias.zero_()
        for conv in model.mask_decoder.pixel_decoder.conv_layers[-more:] if more else ():
            conv.weight.mul_(0.1)
            conv.weight[:, :, 1, 1] += torch.eye(len(conv.weight))
            conv.bias.zero_()


def export(model: Sam3Model, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer's files."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
