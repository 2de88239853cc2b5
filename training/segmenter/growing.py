"""A new tiny model that starts where a smaller trained one stands, instead of from nothing."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import Sam3Model

from services.errors import CheckpointError
from services.replica.checkpoints import SAM3, listed
from services.replica.loading import load_model

# What a model of finer masks has more of, and what differs between numbers of queries.
_FINER = ("vision_encoder.neck.fpn_layers.", "mask_decoder.pixel_decoder.")
_QUERIES = ("detr_decoder.query_embed.weight", "detr_decoder.reference_points.weight")
_JITTER = 0.05  # relative noise on what is doubled: copies that stay equal would learn as one


def grow_from(checkpoint: str, model: Sam3Model) -> None:
    """Give a new model the weights of a trained one, whose vision encoder may be narrower, whose
    masks may be coarser and whose queries may be fewer.

    The new model starts about as good as the old one. What is wider is doubled: each channel of
    the vision encoder becomes copies of the old one, which share what the old one passed on.
    Finer levels of the neck are added silent and the mask decoder's new convolutions pass on what
    they get. A new query starts as the old one whose reference box lies nearest.

    Args:
        checkpoint: folder or hub id; of the same depths, and of the same heads' width.
        model: new, changed in place.

    Raises:
        CheckpointError: there is no such checkpoint, it is not one that works, or it is not of a
            smaller model of this kind.
    """
    old = load_model(Sam3Model, checkpoint, SAM3, dtype=torch.float32)
    neck = model.vision_encoder.neck.fpn_layers
    more = len(neck) - len(old.vision_encoder.neck.fpn_layers)
    own = model.state_dict()
    try:
        widened = _widened(old, model, more)
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{checkpoint} is not of a smaller model: {error}") from error
    _check_grown(checkpoint, widened, own)
    own |= {name: weight for name, weight in widened.items() if own[name].shape == weight.shape}
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


def _check_grown(source: str, widened: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse weights that would be left out, and gaps that would be left random."""
    strange = set(widened) - set(own)
    gaps = {name for name in set(own) - set(widened) if not name.startswith(_FINER)}
    unlike = {
        name
        for name in set(widened) & set(own)
        if widened[name].shape != own[name].shape and name not in _QUERIES
    }
    for names, what in (
        (strange, "has tensors that the new model lacks"),
        (gaps, "lacks tensors of the new model"),
        (unlike, "has tensors of sizes that do not widen to those of the new model"),
    ):
        if names:
            raise CheckpointError(f"{source} {what}: {len(names)} ({listed(names)})")


@torch.no_grad()
def _widened(old: Sam3Model, model: Sam3Model, more_levels: int) -> dict[str, Tensor]:
    """The old weights under their names in the new model, the vision encoder's at its width.

    This is Net2Net's widening (Chen et al., 2016). A layer norm over copies is the copied norm, so
    it holds for a transformer as for a perceptron.
    """
    modules, own = dict(old.named_modules()), model.state_dict()
    weights = {}
    for name, weight in old.state_dict().items():
        new_name = _at_level(name, more_levels)
        if name.startswith("vision_encoder.") and weight.shape != own[new_name].shape:
            part = modules[name.rpartition(".")[0]]
            weight = _copied(weight, own[new_name].shape, _input_axis(part, weight))
        weights[new_name] = weight
    return weights


def _at_level(name: str, more: int) -> str:
    """A weight's name where the neck has `more` finer levels before the old ones."""
    prefix = "vision_encoder.neck.fpn_layers."
    if not name.startswith(prefix):
        return name
    level, rest = name.removeprefix(prefix).split(".", 1)
    return f"{prefix}{int(level) + more}.{rest}"


def _input_axis(module: nn.Module, weight: Tensor) -> int | None:
    """The axis of a weight that reads the layer before; None for biases, norms and embeddings."""
    if weight.ndim < 2 or not isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        return None
    return 0 if isinstance(module, nn.ConvTranspose2d) else 1


def _copied(weight: Tensor, shape: torch.Size, input_axis: int | None) -> Tensor:
    """`weight` repeated along every axis that is longer in `shape`, a whole number of times.

    Raises:
        ValueError: `shape` is not a multiple.
    """
    if weight.ndim != len(shape) or any(
        new % old for new, old in zip(shape, weight.shape, strict=True)
    ):
        raise ValueError(f"weights of {tuple(weight.shape)} do not widen to {tuple(shape)}")
    times = [new // old for new, old in zip(shape, weight.shape, strict=True)]
    wide = weight.repeat(times)
    if weight.ndim > 1:
        wide = wide * (1 + _JITTER * torch.randn_like(wide))
    if input_axis is None or times[input_axis] == 1:
        return wide
    # Copies of one input share its weight, unevenly: equal shares would have equal gradients.
    shares = torch.rand(times[input_axis], weight.shape[input_axis]) + 0.5
    shares = (shares / shares.sum(0)).flatten()
    return wide * shares.view([-1 if axis == input_axis else 1 for axis in range(wide.ndim)])
