"""Video models to start from and to hand on: new around a detector, opened from disk, exported."""

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase, Sam3Model, Sam3VideoModel

from services.replica.checkpoints import SAM3, SAM3_VIDEO, read_config
from services.replica.loading import load_model, load_tokenizer, located
from training.tracker.config import tiny_video_config
from training.tracker.starting import propagating, standardize

# Branches that transformers starts at nothing; from nothing they would learn late.
_SCALE = 0.3
_CODES = 0.3


def new_model(detector: str, seed: int) -> tuple[Sam3VideoModel, PreTrainedTokenizerBase]:
    """A video model with a trained detector and a tracker of random weights.

    The tracker's neck starts as a copy of the detector's.

    Args:
        detector: folder or hub id of a `Sam3Model` with features 64 wide.
        seed: of the random weights.

    Raises:
        CheckpointError: there is no such checkpoint, or it is not one that works.
    """
    trained = load_model(Sam3Model, detector, SAM3, dtype=torch.float32)
    tokenizer = load_tokenizer(detector)
    torch.manual_seed(seed)
    model = Sam3VideoModel(tiny_video_config(trained.config))
    model.detector_model.load_state_dict(trained.state_dict())
    model.tracker_neck.load_state_dict(trained.vision_encoder.neck.state_dict())
    tracker = model.tracker_model
    with torch.no_grad():
        # Places in prompts and places in the picture must have one code.
        shared = tracker.shared_image_embedding.positional_embedding
        tracker.prompt_encoder.shared_embedding.positional_embedding.copy_(shared)
        for block in tracker.memory_encoder.memory_fuser.layers:
            block.scale.fill_(_SCALE)
        # Most objects are there; taken for hidden, their masks would never reach the memory.
        tracker.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(1.0)
        propagating(tracker)
        for code in (
            tracker.memory_temporal_positional_encoding,
            tracker.no_memory_embedding,
            tracker.no_object_pointer,
            tracker.occlusion_spatial_embedding_parameter,
        ):
            nn.init.normal_(code, std=_CODES)
    return model, tokenizer


def open_checkpoint(source: str, seed: int = 0) -> tuple[Sam3VideoModel, PreTrainedTokenizerBase]:
    """A video model to train on; around a `Sam3Model`, one with a new tracker.

    Args:
        source: folder or hub id.
        seed: of a new tracker's random weights.

    Raises:
        CheckpointError: there is no such checkpoint, or it is not one that works.
    """
    config = read_config(located(source, SAM3), SAM3)
    if config["model_type"] not in SAM3_VIDEO.model_types:
        model, tokenizer = new_model(source, seed)
        standardize(model)
        return model, tokenizer
    model = load_model(Sam3VideoModel, source, SAM3_VIDEO, dtype=torch.float32)
    return model, load_tokenizer(source)


def trainable(model: Sam3VideoModel) -> None:
    """Freeze everything but the tracker; in place.

    Its neck, a copy of the detector's, has learned to tell outlines and concepts already, and costs
    a third of a step where it is trained.
    """
    model.requires_grad_(False)
    model.tracker_model.requires_grad_(True)
    model.tracker_model.no_memory_positional_encoding.requires_grad_(False)


def export(model: Sam3VideoModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer's files."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
