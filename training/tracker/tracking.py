"""The tracker's forward pass over many objects at once, with gradients.

transformers' `Sam3TrackerVideoModel` runs object by object, without gradients, on a session. Here
objects are the batch: the same modules in the same order, with one timeline for all of a batch.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Sam3VideoModel
from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import get_1d_sine_pe

NO_OBJECT = -1024.0  # mask logits where the object is not there, as transformers has it
_SCALE, _BIAS = 20.0, -10.0  # logits of a mask that is given


@dataclass(frozen=True)
class FrameFeatures:
    """What the tracker sees of some frames, n of them.

    Attributes:
        fine: for masks, ``[n, c / 8, 4 g, 4 g]``.
        middle: for masks, ``[n, c / 4, 2 g, 2 g]``.
        coarse: ``[n, c, g, g]``.
    """

    fine: Tensor
    middle: Tensor
    coarse: Tensor

    def of(self, index: Tensor) -> "FrameFeatures":
        """Those of the frames with these numbers."""
        return FrameFeatures(self.fine[index], self.middle[index], self.coarse[index])


@dataclass(frozen=True)
class FrameTrack:
    """What the tracker says of every object in one frame.

    Attributes:
        masks: logits of one or three masks, ``[n, k, 4 g, 4 g]``.
        ious: how good it thinks each is, ``[n, k]``.
        scores: logits of being there, ``[n]``.
        chosen: which mask, ``[n]``.
        pointer: ``[n, c]``.
    """

    masks: Tensor
    ious: Tensor
    scores: Tensor
    chosen: Tensor
    pointer: Tensor

    @property
    def mask(self) -> Tensor:
        """The chosen mask where the object is there, `NO_OBJECT` elsewhere, ``[n, 4 g, 4 g]``."""
        best = self.masks[torch.arange(len(self.masks), device=self.masks.device), self.chosen]
        return torch.where(self.scores[:, None, None] > 0, best, NO_OBJECT)


@dataclass
class Memory:
    """What has been seen of the objects: by frame, memories ``[g * g, n, c]`` and pointers."""

    features: dict[int, Tensor] = field(default_factory=dict)
    pointers: dict[int, Tensor] = field(default_factory=dict)
    conditioning: set[int] = field(default_factory=set)

    def forget(self, oldest: int) -> None:
        """Drop frames before `oldest` that are no conditioning ones."""
        for kept in (self.features, self.pointers):
            for frame in [f for f in kept if f < oldest and f not in self.conditioning]:
                del kept[frame]


class BatchedTracker:
    """Runs a video model's tracker.

    Args:
        model: its tracker's neck and tracker are used.
    """

    def __init__(self, model: Sam3VideoModel) -> None:
        self.model = model
        self.tracker = model.tracker_model
        config = self.tracker.config
        self.recent = config.num_maskmem - 1
        self.most_pointers = config.max_object_pointers_in_encoder
        self.most_conditioning = config.max_cond_frame_num

    def features(self, tokens: Tensor) -> FrameFeatures:
        """From the backbone's tokens, ``[n, g * g, c]``."""
        side = self.tracker.prompt_encoder.image_embedding_size
        spatial = tokens.view(len(tokens), *side, -1).permute(0, 3, 1, 2)
        fine, middle, coarse = (layer(spatial) for layer in self.model.tracker_neck.fpn_layers[:3])
        decoder = self.tracker.mask_decoder
        return FrameFeatures(decoder.conv_s0(fine), decoder.conv_s1(middle), coarse)

    def shown_mask(self, at: FrameFeatures, mask: Tensor) -> tuple[FrameTrack, Tensor]:
        """A frame on which masks are given.

        Args:
            at: features of each object's frame.
            mask: 0 or 1, ``[n, 1, 4 g, 4 g]``.

        Returns:
            What the decoder makes of it, with the pointer; and the mask for `remember`.
        """
        size = self.tracker.image_size
        full = functional.interpolate(mask, (size, size), mode="bilinear", antialias=True)
        low = self.tracker.mask_downsample(full)
        side = self.tracker.prompt_encoder.mask_input_size
        low = functional.interpolate(low.float(), side, mode="bilinear", antialias=True)
        track = self._decoded(at, at.coarse, masks=low, several=True)
        seen = (mask.flatten(1).amax(1) > 0)[:, None].to(track.pointer.dtype)
        pointer = seen * track.pointer + (1 - seen) * self.tracker.no_object_pointer
        given = FrameTrack(track.masks, track.ious, track.scores, track.chosen, pointer)
        return given, full * _SCALE + _BIAS

    def shown_points(self, at: FrameFeatures, points: Tensor, labels: Tensor) -> FrameTrack:
        """A first frame with points, ``[n, 1, p, 2]`` in pixels, labels ``[n, 1, p]``."""
        no_memory = self.tracker.no_memory_embedding.view(1, -1, 1, 1)
        # One point can mean several things; then there are three masks to choose from.
        return self._decoded(
            at, at.coarse + no_memory, points, labels, several=labels.shape[-1] < 2
        )

    def propagated(
        self, at: FrameFeatures, memory: Memory, frame: int, kept: tuple[bool, ...] = ()
    ) -> FrameTrack:
        """The next frame, by memory alone.

        Args:
            at: features of each object's frame.
            memory: of frames before.
            frame: its number.
            kept: whether the memory of 1, 2, ... frames before is looked at; by default, it is.
        """
        tracker = self.tracker
        count, width, height, breadth = at.coarse.shape
        current = at.coarse.flatten(2).permute(2, 0, 1)
        place = self._places(at.coarse)
        times = tracker.memory_temporal_positional_encoding
        features, codes = [], []
        nearest = sorted(memory.conditioning, key=lambda at_frame: frame - at_frame)
        chosen = nearest[: self.most_conditioning]
        for seen in sorted(chosen):
            features.append(memory.features[seen])
            codes.append(place + times[-1])
        for distance in range(self.recent, 0, -1):
            seen = frame - distance
            looked_at = not kept or kept[distance - 1]
            if seen in memory.features and seen not in chosen and looked_at:
                features.append(memory.features[seen])
                codes.append(place + times[distance - 1])
        pointed = sorted(memory.conditioning) + [
            frame - distance
            for distance in range(1, self.most_pointers)
            if frame - distance in memory.pointers and frame - distance not in memory.conditioning
        ]
        pointers = torch.stack([memory.pointers[seen] for seen in pointed])
        away = torch.tensor([frame - seen for seen in pointed], dtype=torch.float32)
        sine = get_1d_sine_pe(away.to(current.device) / (self.most_pointers - 1), dim=width)
        code = tracker.temporal_positional_encoding_projection_layer(sine.to(pointers.dtype))
        codes = [part.expand(-1, count, -1) for part in [*codes, code[:, None]]]
        fused = tracker.memory_attention(
            current_vision_features=current,
            current_vision_position_embeddings=place,
            memory=torch.cat([*features, pointers]),
            memory_posision_embeddings=torch.cat(codes),
            num_object_pointer_tokens=len(pointed),
        )
        image = fused[0].transpose(1, 2).reshape(count, width, height, breadth)
        return self._decoded(at, image, several=False)

    def remember(self, at: FrameFeatures, mask: Tensor, seen: Tensor, *, given: bool) -> Tensor:
        """The memory of a frame.

        Args:
            at: features of each object's frame.
            mask: logits, ``[n, 1, h, w]`` of any size.
            seen: whether each object is there, bool ``[n]``.
            given: whether the masks are a prompt's, which are taken as they are.

        Returns:
            ``[g * g, n, c]``.
        """
        tracker = self.tracker
        size = 4 * tracker.prompt_encoder.mask_input_size[0]
        large = functional.interpolate(mask.float(), (size, size), mode="bilinear", antialias=True)
        share = (large > 0).float() if given else large.sigmoid()
        config = tracker.config
        share = share * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
        features, _ = tracker.memory_encoder(at.coarse, share)
        hidden = (~seen)[:, None, None, None].to(features.dtype)
        code = tracker.occlusion_spatial_embedding_parameter[..., None, None]
        memory: Tensor = (features + hidden * code).flatten(2).permute(2, 0, 1)
        return memory

    def _places(self, coarse: Tensor) -> Tensor:
        """Codes of the cells' places, ``[g * g, 1, c]``."""
        encoding = self.tracker.memory_encoder.position_encoding
        code: Tensor = encoding(coarse[:1].shape, coarse.device, torch.float32)
        return code.flatten(2).permute(2, 0, 1)

    def _decoded(
        self,
        at: FrameFeatures,
        image: Tensor,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        masks: Tensor | None = None,
        *,
        several: bool,
    ) -> FrameTrack:
        tracker, count = self.tracker, len(image)
        if points is None:
            points = image.new_zeros(count, 1, 1, 2, dtype=torch.float32)
            labels = torch.full((count, 1, 1), -1, device=image.device)
        # Codes of places turn by many rounds; half precision would blur them.
        with torch.autocast(image.device.type, enabled=False):
            sparse, dense = tracker.prompt_encoder(points, labels, None, masks)
            place = tracker.get_image_wide_positional_embeddings().expand(count, -1, -1, -1)
        logits, ious, tokens, scores = tracker.mask_decoder(
            image_embeddings=image,
            image_positional_embeddings=place,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
            high_resolution_features=[at.fine, at.middle],
        )
        logits, ious, tokens, scores = (x[:, 0].float() for x in (logits, ious, tokens, scores))
        chosen = ious.argmax(-1)
        token = tokens[torch.arange(count, device=tokens.device), chosen]
        score = scores[:, 0]
        there = (score > 0)[:, None].to(token.dtype)
        pointer = (
            there * tracker.object_pointer_proj(token) + (1 - there) * tracker.no_object_pointer
        )
        return FrameTrack(logits, ious, score, chosen, pointer)
