"""SAM 3 for video by Hugging Face transformers: the parts of a `Sam3VideoModel`, in batches.

The detector is the image engine's. The tracker's modules are called here for many objects at once:
`Sam3TrackerVideoModel.forward` runs them one by one and keeps its own state. What it computes is
kept, down to the order of resizing; the parity tests hold both against each other.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import Sam3VideoModel

from services.replica.checkpoints import SAM3_VIDEO
from services.replica.loading import load_model
from services.segmenter.engines import Embedding, Pair
from services.segmenter.engines.transformers import TransformersSegmenterEngine
from services.segmenter.preprocessing import normalized
from services.segmenter.video.engine import (
    Clicks,
    ObjectMask,
    ObjectRecall,
    ObjectStart,
    Observation,
    TrackingPolicy,
    VideoTraits,
)
from services.segmenter.video.settings import VideoSettings

# What a binary mask becomes as logits: close to 0 and 1 after a sigmoid.
_MASK_SCALE, _MASK_BIAS = 20.0, -10.0
# The logit of every pixel of an object that is not visible.
_HIDDEN = -1024.0
# Up to which torch's layer norm is the slower one on a CPU.
_FEW_CHANNELS = 16
# The label of a point that stands for no point at all.
_NO_POINT = -1


class EncodedLevels(NamedTuple):
    """An encoded frame: the detector's levels, finest first, then the tracker's three."""

    detector: tuple[Tensor, ...]
    tracker: tuple[Tensor, ...]


class TransformersVideoEngine(TransformersSegmenterEngine):
    """See `services.segmenter.video.engine.VideoEngine`."""

    _video: Any = None
    _tracker: Any = None

    def __init__(self, settings: VideoSettings) -> None:
        super().__init__(settings)
        self._follow_motion = settings.follow_motion

    def _read(self) -> Any:
        """The detector, of which the image engine's calls are made; the rest stays here."""
        video = load_model(
            Sam3VideoModel,
            self._source,
            SAM3_VIDEO,
            revision=self._revision,
            dtype=self._dtype,
        )
        self._video = video.to(self._device).eval()
        self._tracker = self._video.tracker_model
        # As in `Sam3Model`, nothing reads the coarsest level.
        del self._video.tracker_neck.fpn_layers[-1]
        if self._device.type == "cpu" and self._dtype == torch.float32:
            _hasten_norms(self._tracker.memory_encoder.mask_downsampler)
        return self._video.detector_model

    def close(self) -> None:
        self._video = self._tracker = None
        super().close()

    def describe(self) -> VideoTraits:
        traits = super().describe()
        config = self._tracker.config
        height, width = self._tracker.backbone_feature_sizes[-1]
        return VideoTraits(
            model=traits.model,
            image_size=traits.image_size,
            max_tokens=traits.max_tokens,
            count_tokens=traits.count_tokens,
            policy=_policy(self._video.config, self._follow_motion),
            recent_memories=int(config.num_maskmem) - 1,
            conditioning_memories=max(1, int(config.max_cond_frame_num)),
            pointers=int(config.max_object_pointers_in_encoder),
            frame_bytes=self._frame_bytes(),
            memory_bytes=2 * height * width * int(self._tracker.mem_dim),
            pointer_bytes=self._dtype.itemsize * int(self._tracker.hidden_dim),
        )

    @torch.inference_mode()
    def encode_frames(self, images: Sequence[Tensor]) -> list[Embedding]:
        pixels = normalized(torch.stack(list(images)).to(self._device)).to(self._dtype)
        encoded = self._sam.get_vision_features(pixel_values=pixels)
        levels = encoded.fpn_hidden_states[:-1]
        if not self._positions:
            self._positions = tuple(p[:1].clone() for p in encoded.fpn_position_encoding[:-1])
        height, width = self._tracker.prompt_encoder.image_embedding_size
        backbone = encoded.last_hidden_state.view(len(images), height, width, -1)
        necked = self._video.tracker_neck(backbone.permute(0, 3, 1, 2))[0]
        decoder = self._tracker.mask_decoder
        tracked = (decoder.conv_s0(necked[0]), decoder.conv_s1(necked[1]), necked[2])
        return [
            _frame(
                EncodedLevels(
                    tuple(level[i : i + 1].clone() for level in levels),
                    tuple(level[i : i + 1].clone() for level in tracked),
                )
            )
            for i in range(len(images))
        ]

    @torch.inference_mode()
    def encode_exemplars(self, pairs: Sequence[Pair]) -> list[Embedding]:
        texts = []
        for pair in pairs:
            boxes, labels = self._exemplars([pair])
            if boxes is None or labels is None:
                texts.append(pair.text)
                continue
            geometry = self._sam.geometry_encoder(
                box_embeddings=boxes,
                box_mask=torch.ones_like(labels, dtype=torch.bool),
                box_labels=labels,
                img_feats=tuple(pair.image.data.detector),
                img_pos_embeds=self._positions,
            )
            features, mask = pair.text.data
            texts.append(
                _embedding(
                    (
                        torch.cat([features, geometry.last_hidden_state], 1),
                        torch.cat([mask, geometry.attention_mask.to(mask)], 1),
                    )
                )
            )
        return texts

    @torch.inference_mode()
    def track(self, recalls: Sequence[ObjectRecall]) -> list[ObjectMask]:
        results: dict[int, ObjectMask] = {}
        features = self._recalled(recalls)
        # Clicks choose one mask of three otherwise than tracking does, and points that only fill up
        # are read as well: equally many share a step.
        groups = defaultdict(list)
        for index, recall in enumerate(recalls):
            several = _several(recall.clicks, self._tracker.config, first=False)
            groups[several, _count(recall.clicks)].append(index)
        for (several, _), group in groups.items():
            decoded = self._decoded(
                [recalls[i].frame for i in group],
                features[group],
                [recalls[i].clicks for i in group],
                several,
            )
            results.update(zip(group, decoded, strict=True))
        return [results[i] for i in range(len(recalls))]

    @torch.inference_mode()
    def prompt(self, prompts: Sequence[ObjectStart]) -> list[ObjectMask]:
        results: dict[int, ObjectMask] = {}
        masked = [i for i, prompt in enumerate(prompts) if prompt.mask is not None]
        if masked:
            found = self._from_masks([prompts[i] for i in masked])
            results.update(zip(masked, found, strict=True))
        groups = defaultdict(list)
        for index, prompt in enumerate(prompts):
            if prompt.mask is None:
                several = _several(prompt.clicks, self._tracker.config, first=True)
                groups[several, _count(prompt.clicks)].append(index)
        for (several, _), group in groups.items():
            frames = [prompts[i].frame for i in group]
            features = torch.cat([_coarse(frame) for frame in frames])
            features = features + self._tracker.no_memory_embedding[..., None].transpose(1, 2)
            decoded = self._decoded(frames, features, [prompts[i].clicks for i in group], several)
            results.update(zip(group, decoded, strict=True))
        return [results[i] for i in range(len(prompts))]

    @torch.inference_mode()
    def memorize(self, observations: Sequence[Observation]) -> list[Embedding]:
        tracker = self._tracker
        side = 4 * tracker.prompt_encoder.mask_input_size[0]
        masks = []
        for observation in observations:
            logits = self._logits(observation.logits)
            if observation.hard:
                logits = _resized(logits, tracker.image_size)
                masks.append((_resized(logits, side) > 0).float())
            else:
                masks.append(torch.sigmoid(_resized(logits, side)))
        scaled = torch.cat(masks) * tracker.config.sigmoid_scale_for_mem_enc
        scaled = scaled + tracker.config.sigmoid_bias_for_mem_enc
        frames = torch.cat([_coarse(observation.frame) for observation in observations])
        memories, _ = tracker.memory_encoder(frames, scaled.to(self._dtype))
        occlusion = tracker.occlusion_spatial_embedding_parameter
        if occlusion is not None:
            hidden = [[not observation.visible] for observation in observations]
            share = torch.tensor(hidden, dtype=memories.dtype, device=self._device)
            memories = memories + (share @ occlusion)[..., None, None]
        # As in the published code: memories are kept in half precision, (h * w, channels).
        memories = memories.to(torch.bfloat16).flatten(2).transpose(1, 2)
        return [_embedding((memory.clone(),)) for memory in memories]

    def dump(self, embedding: Embedding) -> bytes:
        return save({str(index): tensor for index, tensor in enumerate(embedding.data)})

    def restore(self, content: bytes) -> Embedding:
        try:
            tensors = load(content)
        except SafetensorError as error:
            raise ValueError("these are no tensors") from error
        order = sorted(tensors, key=int)
        return _embedding(tuple(tensors[name].to(self._device) for name in order))

    def _levels(self, image: Embedding) -> tuple[Tensor, ...]:
        levels: tuple[Tensor, ...] = image.data.detector
        return levels

    def _frame_bytes(self) -> int:
        """What an encoded frame will hold, by the sizes of its levels."""
        detector, tracker = self._sam.config.vision_config, self._tracker.config.vision_config
        decoder = self._tracker.mask_decoder
        cells = [math.prod(size) for size in detector.backbone_feature_sizes[:3]]
        tracked = [math.prod(size) for size in tracker.backbone_feature_sizes[:3]]
        fine, middle = decoder.conv_s0.out_channels, decoder.conv_s1.out_channels
        widths = (fine, middle, self._tracker.hidden_dim)
        values = sum(cells) * detector.fpn_hidden_size
        values += sum(n * width for n, width in zip(tracked, widths, strict=True))
        return int(self._dtype.itemsize * values)

    def _logits(self, logits: Any) -> Tensor:
        """(h, w) of numpy as (1, 1, h, w) on the device."""
        return torch.as_tensor(logits, dtype=torch.float32, device=self._device)[None, None]

    def _recalled(self, recalls: Sequence[ObjectRecall]) -> Tensor:
        """The frame's coarse features as each object's memory colors them: (n, c, h, w)."""
        groups = defaultdict(list)
        for index, recall in enumerate(recalls):
            groups[len(recall.memories), len(recall.pointers)].append(index)
        order: list[int] = []
        features = []
        for group in groups.values():
            order += group
            features.append(self._attended([recalls[i] for i in group]))
        return torch.cat(features)[np.argsort(order)]

    def _attended(self, recalls: Sequence[ObjectRecall]) -> Tensor:
        """`_recalled` for objects that remember equally many frames."""
        tracker = self._tracker
        memories = [
            torch.cat([memory.data[0] for _, memory in recall.memories]) for recall in recalls
        ]
        slots = torch.tensor([[ago for ago, _ in recall.memories] for recall in recalls])
        # Slot 0, a conditioning frame, has the last of the encodings: -1 counts from the end.
        temporal = tracker.memory_temporal_positional_encoding[slots.to(self._device) - 1]
        spatial = self._memory_positions()
        positions = (temporal.flatten(2, 3) + spatial).flatten(1, 2)
        pointers, pointer_positions = self._pointers(recalls)
        memory = torch.cat([torch.stack(memories).to(pointers), pointers], 1)
        frames = torch.cat([_coarse(recall.frame) for recall in recalls])
        cells = frames.flatten(2).permute(2, 0, 1)
        seen = tracker.memory_attention(
            current_vision_features=cells,
            current_vision_position_embeddings=self._positions[2].flatten(2).permute(2, 0, 1),
            memory=memory.transpose(0, 1),
            memory_posision_embeddings=torch.cat([positions, pointer_positions], 1).transpose(0, 1),
            num_object_pointer_tokens=pointers.shape[1],
        )
        # It comes back as (1, n, cells, c).
        features: Tensor = seen[0].transpose(1, 2).reshape(frames.shape)
        return features

    def _memory_positions(self) -> Tensor:
        """The sine encoding of a memory's cells, (h * w, channels)."""
        tracker = self._tracker
        size = (1, tracker.mem_dim, *tracker.backbone_feature_sizes[-1])
        positions = tracker.memory_encoder.position_encoding(size, self._device, self._dtype)
        encoding: Tensor = positions[0].flatten(1).T
        return encoding

    def _pointers(self, recalls: Sequence[ObjectRecall]) -> tuple[Tensor, Tensor]:
        """Pointer tokens of equally many pointers each, and their positions: (n, tokens, c)."""
        tracker = self._tracker
        pointers = torch.stack(
            [torch.stack([p.data[0] for _, p in recall.pointers]) for recall in recalls]
        )
        n, count, channels = pointers.shape
        splits = max(1, channels // tracker.mem_dim)
        if tracker.config.enable_temporal_pos_encoding_for_object_pointers:
            ago = torch.tensor([[float(t) for t, _ in recall.pointers] for recall in recalls])
            horizon = torch.tensor([[float(recall.horizon - 1)] for recall in recalls])
            sines = _sines((ago / horizon).to(self._device), channels).to(pointers)
            positions = tracker.temporal_positional_encoding_projection_layer(sines)
        else:
            positions = pointers.new_zeros(n, count, tracker.mem_dim)
        return (
            pointers.reshape(n, count * splits, -1),
            positions.repeat_interleave(splits, 1),
        )

    def _from_masks(self, prompts: Sequence[ObjectStart]) -> list[ObjectMask]:
        """Objects whose mask is given: it is the answer; the decoder makes the pointer."""
        tracker = self._tracker
        masks = torch.cat([_resized(self._logits(p.mask), tracker.image_size) for p in prompts])
        logits = _resized(
            masks * _MASK_SCALE + _MASK_BIAS, tracker.prompt_encoder.mask_input_size[0]
        )
        frames = [prompt.frame for prompt in prompts]
        dense = tracker.mask_downsample(masks.to(self._dtype))
        dense = _resized(dense.float(), tracker.prompt_encoder.mask_input_size[0])
        features = torch.cat([_coarse(frame) for frame in frames])
        decoded = self._decoded(
            frames, features, [None] * len(prompts), True, dense.to(self._dtype)
        )
        return [
            ObjectMask(
                logits=logits[i, 0].cpu().numpy(),
                score=_MASK_SCALE + _MASK_BIAS if prompt_has_pixels else _MASK_BIAS,
                pointer=found.pointer if prompt_has_pixels else self._no_pointer(),
            )
            for i, found in enumerate(decoded)
            for prompt_has_pixels in [bool(np.any(np.asarray(prompts[i].mask) > 0))]
        ]

    def _no_pointer(self) -> Embedding:
        return _embedding((self._tracker.no_object_pointer[0].clone(),))

    def _decoded(
        self,
        frames: Sequence[Embedding],
        features: Tensor,
        clicks: Sequence[Clicks | None],
        several: bool,
        masks: Tensor | None = None,
    ) -> list[ObjectMask]:
        """SAM's mask decoder on `features`, (n, c, h, w), one object each; of several masks the
        one that it thinks best.
        """
        tracker, n = self._tracker, len(frames)
        points, labels = self._points(clicks)
        sparse, dense = tracker.prompt_encoder(points, labels, None, masks)
        places = tracker.get_image_wide_positional_embeddings().expand(n, -1, -1, -1)
        logits, qualities, tokens, scores = tracker.mask_decoder(
            image_embeddings=features,
            image_positional_embeddings=places,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
            high_resolution_features=[
                torch.cat([frame.data.tracker[level] for frame in frames]) for level in (0, 1)
            ],
        )
        rows = torch.arange(n, device=self._device)
        best = qualities[:, 0].argmax(-1) if several else torch.zeros_like(rows)
        visible = scores[:, 0] > 0
        chosen = torch.where(visible[..., None], logits[rows, 0, best].float(), _HIDDEN)
        token = tokens[rows, 0, best if tokens.shape[2] > 1 else torch.zeros_like(rows)]
        pointers = tracker.object_pointer_proj(token)
        pointers = torch.where(visible, pointers, tracker.no_object_pointer)
        found = chosen.cpu().numpy()
        return [
            ObjectMask(found[i], score, _embedding((pointers[i].clone(),)))
            for i, score in enumerate(scores[:, 0, 0].float().tolist())
        ]

    def _points(self, clicks: Sequence[Clicks | None]) -> tuple[Tensor, Tensor]:
        """Points (n, 1, count, 2) in the model's pixels and labels (n, 1, count), equally many."""
        count = max(1, _count(clicks[0]))
        points = torch.zeros(len(clicks), 1, count, 2)
        labels = torch.full((len(clicks), 1, count), _NO_POINT, dtype=torch.int32)
        for row, click in enumerate(clicks):
            if click is not None:
                points[row, 0] = torch.from_numpy(click.points)
                labels[row, 0] = torch.from_numpy(click.labels)
        points = (points * self._tracker.image_size).to(self._device, self._dtype)
        return points, labels.to(self._device)


def _hasten_norms(module: nn.Module) -> None:
    """Let the layer norms over few channels, (n, c, h, w), work along whole planes.

    torch's kernel takes one pixel at a time, a row of four numbers of the mask downsampler's first
    layer: a quarter of a memory's time on a CPU.
    """
    for norm in module.modules():
        few = isinstance(norm, nn.LayerNorm) and norm.normalized_shape[0] <= _FEW_CHANNELS
        if few and norm.data_format == "channels_first":
            norm.forward = partial(_normed, norm)


def _normed(norm: Any, features: Tensor) -> Tensor:
    """`norm` of `features`, (n, c, h, w), over their channels."""
    centered = features - features.mean(1, keepdim=True)
    scale = (centered * centered).mean(1, keepdim=True).add_(norm.eps).rsqrt_()
    weight, bias = norm.weight[:, None, None], norm.bias[:, None, None]
    return centered.mul_(scale).mul_(weight).add_(bias)


def _count(clicks: Clicks | None) -> int:
    return 0 if clicks is None else len(clicks.points)


def _several(clicks: Clicks | None, config: Any, *, first: bool) -> bool:
    """Whether the decoder gives several masks to choose from, for so few points."""
    count = _count(clicks)
    return bool(
        config.multimask_output_in_sam
        and (first or config.multimask_output_for_tracking)
        and config.multimask_min_pt_num <= count <= config.multimask_max_pt_num
    )


def _coarse(frame: Embedding) -> Tensor:
    """The tracker's coarsest level, (1, c, h, w)."""
    level: Tensor = frame.data.tracker[2]
    return level


def _resized(masks: Tensor, side: int) -> Tensor:
    """(n, 1, h, w) stretched to a square, antialiased where it shrinks."""
    if masks.shape[-2:] == (side, side):
        return masks
    return interpolate(masks, (side, side), mode="bilinear", antialias=True)


def _sines(positions: Tensor, channels: int) -> Tensor:
    """Sine encoding of `positions`, (...), to (..., channels); Vaswani et al. (2017), 3.5."""
    half = channels // 2
    steps = torch.arange(half, dtype=torch.float32, device=positions.device)
    angles = positions[..., None] / 10000 ** (2 * (steps // 2) / half)
    return torch.cat([angles.sin(), angles.cos()], -1)


def _policy(config: Any, follow_motion: bool | None) -> TrackingPolicy:
    """What a checkpoint says; `follow_motion`, unless it is None, goes before that."""
    if follow_motion is None:
        follow_motion = bool(getattr(config, "follow_motion", False))
    return TrackingPolicy(
        score_threshold=config.score_threshold_detection,
        nms_threshold=config.det_nms_thresh,
        detection_match_iou=config.assoc_iou_thresh,
        track_match_iou=config.trk_assoc_iou_thresh,
        new_object_score=config.new_det_thresh,
        recondition_from_track=config.recondition_on_trk_masks,
        recondition_every=config.recondition_every_nth_frame,
        recondition_score=config.high_conf_thresh,
        recondition_iou=config.high_iou_thresh,
        hotstart_delay=config.hotstart_delay,
        hotstart_unmatched=config.hotstart_unmatch_thresh,
        hotstart_duplicate=config.hotstart_dup_thresh,
        suppress_unmatched_always=not config.suppress_unmatched_only_within_hotstart,
        keep_alive_initial=config.init_trk_keep_alive,
        keep_alive_max=config.max_trk_keep_alive,
        keep_alive_min=config.min_trk_keep_alive,
        keep_alive_counts_empty=config.decrease_trk_keep_alive_for_empty_masklets,
        occlusion_iou=config.suppress_overlapping_based_on_recent_occlusion_threshold,
        fill_area=config.fill_hole_area,
        follow_motion=follow_motion,
        motion_frames=int(getattr(config, "motion_frames", TrackingPolicy().motion_frames)),
    )


def _frame(features: EncodedLevels) -> Embedding:
    return Embedding(features, sum(t.nbytes for t in (*features.detector, *features.tracker)))


def _embedding(tensors: tuple[Tensor, ...]) -> Embedding:
    return Embedding(tensors, sum(tensor.nbytes for tensor in tensors))
