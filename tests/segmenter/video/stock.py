"""Plain `Sam3VideoModel` on a clip, to hold ours against: streaming, or the whole clip at once.

transformers takes non-maximum suppression, hole filling and the removal of specks from kernels that
are not installed here; stand-ins of scipy take their place.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import AutoTokenizer, Sam3VideoModel
from transformers.models.sam3_video import modeling_sam3_video
from transformers.models.sam3_video.modeling_sam3_video import Sam3VideoInferenceSession

from services.segmenter.pointers import install_object_pointers
from services.segmenter.preprocessing import normalized, to_model_input

Masks = dict[int, NDArray[np.bool_]]
_EIGHT = np.ones((3, 3))


class StandInKernels:
    """What `kernels-community/cv-utils` computes, by its documentation."""

    @staticmethod
    def generic_nms(ious: Tensor, scores: Tensor, threshold: float, **_: Any) -> Tensor:
        """Indices that stay, greedily by score."""
        left = scores.argsort(descending=True, stable=True).tolist()
        kept = []
        while left:
            best, *left = left
            kept.append(best)
            left = [i for i in left if ious[best, i] <= threshold]
        return torch.tensor(kept, dtype=torch.long)

    @staticmethod
    def cc_2d(masks: Tensor, get_counts: bool) -> tuple[Tensor, Tensor]:
        """Labels and sizes of connected areas, per pixel."""
        labels, counts = np.zeros(masks.shape, np.int32), np.zeros(masks.shape, np.int32)
        for index, mask in enumerate(masks[:, 0].numpy()):
            labels[index, 0], _ = ndimage.label(mask, _EIGHT)
            sizes = np.bincount(labels[index, 0].ravel())
            counts[index, 0] = np.where(mask, sizes[labels[index, 0]], 0)
        return torch.from_numpy(labels), torch.from_numpy(counts)


@dataclass
class StockFrame:
    """What it says of one frame: masks at the frame's size by id, ids not to be shown left out."""

    masks: Masks
    removed: set[int]


@contextmanager
def kernels() -> Iterator[None]:
    """With the stand-ins in place."""
    before = modeling_sam3_video.cv_utils_kernel
    modeling_sam3_video.cv_utils_kernel = StandInKernels
    try:
        yield
    finally:
        modeling_sam3_video.cv_utils_kernel = before


def stock_frames(
    checkpoint: Path,
    frames: Sequence[NDArray[np.uint8]],
    phrases: Sequence[str],
    *,
    streaming: bool = True,
) -> list[StockFrame]:
    """What the model says of each of `frames`, asked for `phrases`."""
    install_object_pointers()
    model = Sam3VideoModel.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    side = model.config.detector_config.vision_config.backbone_config.image_size
    pixels = [normalized(to_model_input(frame, side)) for frame in frames]
    size = frames[0].shape[:2]
    session = Sam3VideoInferenceSession(
        video=None if streaming else torch.stack(pixels), dtype=torch.float32
    )
    for phrase in phrases:
        key = session.add_prompt(phrase)
        text = tokenizer(phrase, padding="max_length", max_length=32, return_tensors="pt")
        session.prompt_input_ids[key] = text["input_ids"]
        session.prompt_attention_masks[key] = text["attention_mask"]
    with kernels(), torch.inference_mode():
        if not streaming:
            answers = model.propagate_in_video_iterator(session)
            # Which ids were removed is known once later frames were seen.
            return [_frame(session, answer, size) for answer in answers]
        return [
            _frame(session, model(session, frame_idx=index, frame=frame), size)
            for index, frame in enumerate(pixels)
        ]


def _frame(session: Any, answer: Any, size: tuple[int, int]) -> StockFrame:
    hidden = set(answer.suppressed_obj_ids) | session.hotstart_removed_obj_ids
    ids = sorted(answer.obj_id_to_mask)
    drawn = {}
    for number in ids:
        logits = answer.obj_id_to_mask[number][None].float()
        mask = interpolate(logits, size, mode="bilinear", align_corners=False)[0, 0] > 0
        if mask.any() and number not in hidden:
            drawn[number] = mask.numpy()
    scores = {number: answer.obj_id_to_tracker_score.get(number, 0.0) for number in drawn}
    return StockFrame(
        _shared_out(drawn, scores, session.obj_id_to_prompt_id), set(answer.removed_obj_ids)
    )


def _shared_out(masks: Masks, scores: dict[int, float], prompts: dict[int, int]) -> Masks:
    """A pixel that several objects of a prompt claim goes to the best, as its processor does."""
    out = {}
    for number, mask in masks.items():
        better = [
            masks[n]
            for n in masks
            if prompts[n] == prompts[number] and (-scores[n], n) < (-scores[number], number)
        ]
        out[number] = mask & ~np.logical_or.reduce([*better, np.zeros_like(mask)])
    return {number: mask for number, mask in out.items() if mask.any()}
