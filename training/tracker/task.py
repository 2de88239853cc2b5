"""The tracker's training task: from a step's number to objects followed through their frames."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, Sam3VideoModel

from training.kit.task import ParameterGroup, TrainingTask
from training.tracker.evaluate import TrackerFigures, evaluate
from training.tracker.losses import total, tracking_losses
from training.tracker.models import export, trainable
from training.tracker.pool import WindowPool
from training.tracker.prompts import box_points, inner_points, perturbed
from training.tracker.recipe import TrackerRecipe
from training.tracker.sampling import FirstPrompt, Remembered, TrackingChoice, choose
from training.tracker.tracking import BatchedTracker, FrameFeatures, FrameTrack, Memory
from training.tracker.windows import FULL, WindowSizes

_STRENGTH = 0.35  # of perturbed masks at most
_MISSED = 0.1  # share of objects that are not detected where others are


@dataclass(frozen=True)
class TrackingBatch:
    """Objects and the frames they are followed through.

    Attributes:
        tokens: the backbone's, of every frame of every slot, frames first, ``[t * s, g * g, c]``.
        slot: of each object, ``[n]``.
        coverage: ``[t, n, m, m]``, 0 to 1.
        choice: what was drawn.
        strength: of what a detector's masks are off by, ``[t, n]``.
        detected: whether it finds each, ``[t, n]``.
    """

    tokens: Tensor
    slot: Tensor
    coverage: Tensor
    choice: TrackingChoice
    strength: Tensor
    detected: Tensor


class TrackerTask(TrainingTask):
    """Trains the tracker of a video model, in place.

    Args:
        model: everything else of it is frozen.
        tokenizer: of its detector, to be exported with it.
        recipe: the run's numbers.
    """

    name = "tracker"

    def __init__(
        self, model: Sam3VideoModel, tokenizer: PreTrainedTokenizerBase, recipe: TrackerRecipe
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe: TrackerRecipe = recipe
        self.tokenizer = tokenizer
        self.tracker = BatchedTracker(model)
        trainable(model)
        image = model.config.detector_config.vision_config.image_size
        masks = model.config.low_res_mask_size
        self._sizes = WindowSizes(recipe.long_frames + 2, image, masks)
        self._pool: WindowPool | None = None
        self._figures: TrackerFigures | None = None

    @property
    def pool(self) -> WindowPool:
        """The windows that steps draw from, on the model's device."""
        if self._pool is None:
            recipe, device = self.recipe, next(self.model.parameters()).device
            self._pool = WindowPool(self.encode, self._sizes, recipe.pool, device, recipe.workers)
        return self._pool

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """The frozen backbone's tokens, ``[n, g * g, c]``, of float pixels ``[n, 3, s, s]``."""
        backbone = self.model.detector_model.vision_encoder.backbone
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=pixels.is_cuda):
            tokens: Tensor = backbone(pixels).last_hidden_state
        return tokens

    def groups(self) -> Sequence[ParameterGroup]:
        """Muon for the matrices of linear layers, if at all; AdamW for the rest."""
        recipe = self.recipe
        linear = [module for module in self.model.modules() if isinstance(module, nn.Linear)]
        matrices = {id(m.weight) for m in linear} if recipe.muon_learning_rate else set()
        grouped: dict[tuple[float, float, bool], list[nn.Parameter]] = defaultdict(list)
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                muon = id(parameter) in matrices
                peak = recipe.muon_learning_rate if muon else recipe.learning_rate
                decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
                grouped[peak, decay, muon].append(parameter)
        return [ParameterGroup(parameters, *key) for key, parameters in grouped.items()]

    def batches(self, step: int, progress: float) -> Iterator[TrackingBatch]:
        recipe = self.recipe
        length = recipe.length(progress)
        # More frames take the memory and time of as many more objects.
        count = max(1, recipe.batch * recipe.frames // length)
        available = self.pool.advance(recipe.first + int(recipe.fresh * step))
        for part in range(recipe.accumulate):
            rng = np.random.default_rng([step, part, 7])
            choice = choose(
                rng, available, self.pool.visibility, count, length, self.tracker.recent
            )
            yield self._batch(choice)

    def losses(self, batch: TrackingBatch, step: int) -> Mapping[str, Tensor]:
        choice = batch.choice
        slots = len(choice.windows)
        seen_by_all = self.tracker.features(batch.tokens)
        parts: dict[str, list[Tensor]] = defaultdict(list)
        memory = Memory()
        for frame in range(choice.length):
            at = seen_by_all.of(frame * slots + batch.slot)
            track = self._followed(batch, at, memory, frame)
            with torch.autocast(at.coarse.device.type, enabled=False):
                found = tracking_losses(track, batch.coverage[frame])
            for name, value in found.items():
                first = "first_" if frame == 0 and name == "mean_iou" else ""
                parts[first + name].append(value)
        waited = torch.tensor(self.pool.waited)
        self.pool.waited = 0.0
        return {name: torch.stack(values).mean() for name, values in parts.items()} | {
            "waited": waited
        }

    def total(self, losses: Mapping[str, Tensor], dense: bool) -> Tensor:
        return total(losses)

    def validate(self) -> Mapping[str, float]:
        if not self.recipe.validation_scenes:
            return {}
        if self._figures is None:
            self._figures = TrackerFigures.prepared(
                self.encode,
                self._sizes,
                self.recipe.validation_scenes,
                next(self.model.parameters()).device,
                self.recipe.workers,
            )
        return evaluate(self.tracker, self._figures)

    def export(self, folder: Path, *, final: bool) -> None:
        if final:
            export(self.model, self.tokenizer, folder)

    def _followed(
        self, batch: TrackingBatch, at: FrameFeatures, memory: Memory, frame: int
    ) -> FrameTrack:
        """One frame: prompted, corrected or propagated; and what is remembered of it."""
        choice, tracker = batch.choice, self.tracker
        remembered = choice.remembered[frame]
        given = remembered is Remembered.SHOWN
        prompted = given or (frame == 0 and choice.prompt is FirstPrompt.MASK)
        last = frame + 1 == choice.length
        if prompted or (remembered is Remembered.DETECTED and not last):
            shown = perturbed(batch.coverage[frame], batch.strength[frame])
        if prompted:
            track, mask = tracker.shown_mask(at, shown)
        elif frame == 0:
            size = tracker.tracker.image_size
            made = box_points if choice.prompt is FirstPrompt.BOX else inner_points
            track = tracker.shown_points(at, *made(batch.coverage[0], size))
            mask = track.mask[:, None]
        else:
            track = tracker.propagated(at, memory, frame, choice.kept)
            mask = track.mask[:, None]
        if not last:
            # What is remembered is taken as it is: through many frames' masks gradients explode.
            mask = mask.detach()
            if remembered is Remembered.DETECTED:
                # `Sam3VideoModel` puts 0 and 1 where logits are expected.
                found = batch.detected[frame] & (shown.flatten(1).amax(1) > 0)
                own = track.mask.detach()[:, None]
                mask = torch.where(found[:, None, None, None], shown, own)
            seen = (mask > 0).flatten(1).any(1)
            memory.features[frame] = tracker.remember(at, mask, seen, given=given)
        memory.pointers[frame] = track.pointer
        if frame == 0 or remembered is not Remembered.OWN:
            memory.conditioning.add(frame)
        return track

    def _batch(self, choice: TrackingChoice) -> TrackingBatch:
        pool = self.pool
        device = pool.device
        rows = torch.from_numpy(choice.windows % pool.capacity).to(device)
        frames = torch.from_numpy(choice.frames).to(device)
        slot = torch.from_numpy(choice.slot).to(device)
        row = torch.from_numpy(choice.row).to(device)
        tokens = pool.tokens[rows[None], frames].flatten(0, 1).float()
        at = frames[:, slot]
        coverage = pool.coverage[rows[slot][None], row[None], at].float() / FULL
        # A third are true, the others wander by up to the full strength.
        shape = coverage.shape[:2]
        strength = (torch.rand(shape) * 1.5 - 0.5).clamp(min=0).to(device) * _STRENGTH
        detected = (torch.rand(shape) > _MISSED).to(device)
        return TrackingBatch(tokens, slot, coverage, choice, strength, detected)
