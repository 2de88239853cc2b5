"""A new tiny model that starts where a smaller trained one stands, instead of from nothing."""

import torch
from transformers import Sam3Model


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
