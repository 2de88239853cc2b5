"""Training batches for the tiny segmenter: scenes, phrases, and what the model should say.

Every example is made from one seed, so that a resumed run sees what an unbroken one would.
Pixels go through exactly the service's preprocessing; masks are brought to the model's grids
as soft coverage (the share of each cell that the visible sticker fills).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTokenizer

from services.stickers.backgrounds import WIDE, draw_background
from services.stickers.scenes import (
    Instance,
    Scene,
    compose,
    random_placements,
    random_size,
)
from services.stickers.segmenter.sampling import PhraseSampler
from services.stickers.weather import weathered

EXEMPLAR_PHRASE = "visual"
MAX_INSTANCES = 8
PADDING_LABEL = -10  # what Sam3Model ignores in `input_boxes_labels`


def preprocess(images: Sequence[np.ndarray], side: int) -> Tensor:
    """uint8 ``[h, w, 3]`` images of any size → float32 ``[n, 3, side, side]`` in -1 to 1."""
    squares = [
        functional.interpolate(
            torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None],
            (side, side),
            mode="bilinear",
            antialias=True,
        )
        for image in images
    ]
    return torch.cat(squares).float() / 127.5 - 1


@dataclass(frozen=True)
class Pairs:
    """(image x phrase) pairs of a batch, n of them.

    Attributes:
        image: index of each pair's image, ``[n]``.
        input_ids, attention_mask: the phrases, ``[n, t]``.
        boxes: exemplar boxes, cx cy w h in 0 to 1, ``[n, k, 4]``; k is 0 for phrases only.
        box_labels: 1 wanted, 0 not wanted, `PADDING_LABEL` none, ``[n, k]``.
        presence: 1 there, 0 not there, -1 only as "don't care", float ``[n]``.
        target_boxes: cx cy w h in 0 to 1, ``[n, MAX_INSTANCES, 4]``.
        target_masks: soft coverage, ``[n, MAX_INSTANCES, m, m]``.
        counts: how many of these targets are real, ``[n]``.
        semantic: soft coverage of all matching stickers, ``[n, m, m]``.
    """

    image: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    boxes: Tensor
    box_labels: Tensor
    presence: Tensor
    target_boxes: Tensor
    target_masks: Tensor
    counts: Tensor
    semantic: Tensor


@dataclass(frozen=True)
class Batch:
    """Images with their dense targets, and the pairs asked about them.

    Attributes:
        pixels: float ``[b, 3, s, s]``.
        coverage: share of each token filled by each concept, the rest is background,
            ``[b, g, g, concepts + 1]``, background last.
        token_boxes: box of the instance that fills most of a token, cx cy w h in 0 to 1,
            ``[b, g, g, 4]``.
        pairs: None in the dense stage.
    """

    pixels: Tensor
    coverage: Tensor
    token_boxes: Tensor
    pairs: Pairs | None


@dataclass(frozen=True)
class _Pair:
    image: int
    phrase: str
    instances: tuple[int, ...]
    boxes: tuple[tuple[tuple[float, float, float, float], int], ...] = ()


@dataclass(frozen=True)
class BatchMaker:
    """Makes batches from seeds.

    Attributes:
        sampler: draws the phrases.
        tokenizer: the model's.
        image_side: the model's input, pixels.
        token_grid: tokens a side.
        mask_grid: mask cells a side.
        phrases_per_image: pairs an image.
    """

    sampler: PhraseSampler
    tokenizer: CLIPTokenizer
    image_side: int
    token_grid: int
    mask_grid: int
    phrases_per_image: int = 3

    def dense(self, seeds: Sequence[int]) -> Batch:
        """Images and dense targets only; twice as crowded, to teach more an image."""
        scenes = [self._scene(np.random.default_rng(seed), crowds=2) for seed in seeds]
        return self._batch(scenes, None)

    def phrases(self, seeds: Sequence[int]) -> Batch:
        """Pairs of an image and a phrase."""
        return self._paired(seeds, exemplars=False)

    def exemplars(self, seeds: Sequence[int]) -> Batch:
        """Pairs of an image and one to three exemplar boxes, a third of them with a phrase too."""
        return self._paired(seeds, exemplars=True)

    def _scene(self, rng: np.random.Generator, crowds: int = 1) -> Scene:
        size = random_size(rng, 240, 480)
        # Stickers of one concept that touch are what is hardest, and small ones what is missed.
        most_kinds = 2 if rng.random() < 0.5 else 5
        longest_side = 0.3 if rng.random() < 0.35 else 0.5
        outside = 0.35 if rng.random() < 0.15 else 0.0
        placements = [
            placement
            for _ in range(crowds)
            for placement in random_placements(
                rng,
                self.sampler.pool(rng),
                size,
                most_kinds=most_kinds,
                longest_side=longest_side,
                outside=outside,
            )
        ]
        return weathered(compose(placements, draw_background(rng, size, WIDE)), rng)

    def _paired(self, seeds: Sequence[int], exemplars: bool) -> Batch:
        scenes: list[Scene] = []
        pairs: list[_Pair] = []
        for number, seed in enumerate(seeds):
            rng = np.random.default_rng(seed)
            scene = self._scene(rng)
            scenes.append(scene)
            if exemplars:
                drawn = [self._exemplar(rng, number, scene) for _ in range(self.phrases_per_image)]
                pairs.extend(pair for pair in drawn if pair)
            else:
                drawn_phrases = self.sampler.phrases(rng, scene, self.phrases_per_image)
                pairs.extend(self._pair(number, scene, phrase) for phrase in drawn_phrases)
        return self._batch(scenes, pairs)

    def _pair(self, number: int, scene: Scene, phrase: str) -> _Pair:
        matching = self.sampler.book.matching_concepts(phrase)
        chosen = tuple(i for i, x in enumerate(scene.instances) if x.concept.index in matching)
        return _Pair(number, phrase, chosen)

    def _exemplar(self, rng: np.random.Generator, number: int, scene: Scene) -> _Pair | None:
        shown = [instance for instance in scene.instances if not instance.dont_care]
        if not shown:
            return None
        positive = shown[rng.integers(len(shown))]
        wanted = positive.concept.index
        same = [x for x in shown if x.concept.index == wanted and x is not positive]
        others = [x for x in shown if x.concept.index != wanted]
        alike = {concept.index for concept in self.sampler.look_alikes[wanted]}
        confusing = [x for x in others if x.concept.index in alike]
        boxes = [(_normalised(positive), 1)]
        if same and rng.random() < 0.25:
            boxes.append((_normalised(same[rng.integers(len(same))]), 1))
        if others and rng.random() < 0.5:
            pool = confusing or others
            boxes.append((_normalised(pool[rng.integers(len(pool))]), 0))
        phrase = positive.concept.name if rng.random() < 0.35 else EXEMPLAR_PHRASE
        chosen = tuple(i for i, x in enumerate(scene.instances) if x.concept.index == wanted)
        return _Pair(number, phrase, chosen, tuple(boxes))

    def _batch(self, scenes: Sequence[Scene], pairs: Sequence[_Pair] | None) -> Batch:
        masks = [self._masks(scene) for scene in scenes]
        dense = [
            self._dense_targets(scene, mask) for scene, mask in zip(scenes, masks, strict=True)
        ]
        return Batch(
            pixels=preprocess([scene.image for scene in scenes], self.image_side),
            coverage=torch.stack([coverage for coverage, _ in dense]),
            token_boxes=torch.stack([boxes for _, boxes in dense]),
            pairs=self._collated(scenes, masks, pairs) if pairs else None,
        )

    def _masks(self, scene: Scene) -> Tensor:
        """Soft coverage of each instance on the mask grid, ``[instances, m, m]``."""
        grid = self.mask_grid
        return torch.stack([_coverage(instance, grid) for instance in scene.instances])

    def _dense_targets(self, scene: Scene, masks: Tensor) -> tuple[Tensor, Tensor]:
        tokens = functional.adaptive_avg_pool2d(masks, self.token_grid)
        concepts = len(self.sampler.book.vocabulary.concepts)
        coverage = torch.zeros(concepts + 1, self.token_grid, self.token_grid)
        index = torch.tensor([instance.concept.index for instance in scene.instances])
        coverage.index_add_(0, index, tokens)
        coverage[-1] = (1 - coverage[:-1].sum(0)).clamp(min=0)
        boxes = torch.tensor([_normalised(instance) for instance in scene.instances])
        return coverage.permute(1, 2, 0), boxes[tokens.argmax(0)]

    def _collated(
        self, scenes: Sequence[Scene], masks: Sequence[Tensor], pairs: Sequence[_Pair]
    ) -> Pairs:
        text = self.tokenizer([pair.phrase for pair in pairs], padding=True, return_tensors="pt")
        count, grid = len(pairs), self.mask_grid
        target_boxes = torch.zeros(count, MAX_INSTANCES, 4)
        target_masks = torch.zeros(count, MAX_INSTANCES, grid, grid)
        semantic = torch.zeros(count, grid, grid)
        counts = torch.zeros(count, dtype=torch.long)
        presence = torch.zeros(count)
        for row, pair in enumerate(pairs):
            instances = scenes[pair.image].instances
            wanted = [i for i in pair.instances if not instances[i].dont_care]
            counts[row] = len(wanted)
            presence[row] = 1 if wanted else (-1 if pair.instances else 0)
            if pair.instances:
                semantic[row] = masks[pair.image][list(pair.instances)].sum(0).clamp(max=1)
            if wanted:
                target_masks[row, : len(wanted)] = masks[pair.image][wanted]
                target_boxes[row, : len(wanted)] = torch.tensor(
                    [_normalised(instances[i]) for i in wanted]
                )
        boxes, labels = _collated_boxes(pairs)
        return Pairs(
            image=torch.tensor([pair.image for pair in pairs]),
            input_ids=text.input_ids,
            attention_mask=text.attention_mask,
            boxes=boxes,
            box_labels=labels,
            presence=presence,
            target_boxes=target_boxes,
            target_masks=target_masks,
            counts=counts,
            semantic=semantic,
        )


def _normalised(instance: Instance) -> tuple[float, float, float, float]:
    (x0, y0, x1, y1), (width, height) = instance.box, instance.frame
    return (x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height


def _coverage(instance: Instance, grid: int) -> Tensor:
    """Share of each grid cell that the instance fills, ``[grid, grid]``.

    Exact area averages: each pixel is shared out between the cells it straddles, rows and
    columns apart, and only inside the instance's box.
    """
    (x0, y0, x1, y1), (width, height) = instance.box, instance.frame
    rows = _sharing(y0, y1, height, grid)
    columns = _sharing(x0, x1, width, grid)
    return torch.from_numpy(rows @ instance.visible.astype(np.float32) @ columns.T)


def _sharing(low: int, high: int, length: int, grid: int) -> np.ndarray:
    """``[grid, high - low]``: which share of each cell each pixel covers, along one axis."""
    cell = length / grid
    edges = np.arange(grid, dtype=np.float32)[:, None] * cell
    pixels = np.arange(low, high, dtype=np.float32)[None]
    overlap = np.minimum(edges + cell, pixels + 1) - np.maximum(edges, pixels)
    share: np.ndarray = np.clip(overlap, 0, None) / cell
    return share.astype(np.float32)


def _collated_boxes(pairs: Sequence[_Pair]) -> tuple[Tensor, Tensor]:
    most = max(len(pair.boxes) for pair in pairs)
    boxes = torch.full((len(pairs), most, 4), 0.5)
    labels = torch.full((len(pairs), most), PADDING_LABEL)
    for row, pair in enumerate(pairs):
        for column, (box, label) in enumerate(pair.boxes):
            boxes[row, column], labels[row, column] = torch.tensor(box), label
    return boxes, labels
