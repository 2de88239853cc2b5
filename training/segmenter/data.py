"""Training batches: scenes, what is asked about them, and what the model should answer.

Flow: seed -> scene -> `PhraseSampler` -> pairs of image and phrase -> `SegmenterBatch`. Pixels go
through exactly the service's preprocessing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from services.segmenter.engines import EXEMPLARS_ONLY
from services.segmenter.preprocessing import normalized, to_model_input
from training.datasets.sources import SceneSource
from training.segmenter.dense import DenseTargets, dense_targets
from training.segmenter.grids import Grids, coverage, normalized_box
from training.segmenter.sampling import PhraseSampler
from training.world.scenes import Scene
from training.world.vocabulary import Vocabulary

PADDING_LABEL = -10  # what Sam3Model ignores in `input_boxes_labels`


@dataclass(frozen=True)
class Pairs:
    """(image x phrase) pairs of a batch, n of them.

    Attributes:
        image: index of each pair's image, ``[n]``.
        input_ids, attention_mask: the phrases, ``[n, t]``.
        boxes: exemplar boxes, cx cy w h in 0 to 1, ``[n, k, 4]``; k is 0 for phrases only.
        box_labels: 1 wanted, 0 not wanted, `PADDING_LABEL` none, ``[n, k]``.
        presence: 1 there, 0 not there, -1 only as "don't care", float ``[n]``.
        target_boxes: cx cy w h in 0 to 1, ``[n, t, 4]``, t the most targets of any pair.
        target_masks: soft coverage, ``[n, t, m, m]``.
        counts: how many of these targets are real, ``[n]``.
        semantic: soft coverage of all matching instances, ``[n, m, m]``.
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
class SegmenterBatch:
    """Images with their dense targets, and the pairs asked about them.

    Attributes:
        pixels: float ``[b, 3, s, s]``.
        dense: what every token and every mask cell shows.
        pairs: None in the dense stage.
    """

    pixels: Tensor
    dense: DenseTargets
    pairs: Pairs | None


@dataclass(frozen=True)
class _Pair:
    image: int
    phrase: str
    instances: tuple[int, ...]
    boxes: tuple[tuple[tuple[float, float, float, float], int], ...] = ()


@dataclass(frozen=True)
class BatchBuilder:
    """Makes batches from seeds.

    Attributes:
        source: draws the scenes.
        sampler: draws the phrases.
        tokenizer: the model's.
        grids: the model's.
        max_targets: of a pair; the model's queries, since each answers for one at most. Of more
            instances the largest are wanted.
        phrases_per_image: pairs an image.
    """

    source: SceneSource
    sampler: PhraseSampler
    tokenizer: PreTrainedTokenizerBase
    grids: Grids
    max_targets: int
    phrases_per_image: int = 3

    def dense(self, seeds: Sequence[int]) -> SegmenterBatch:
        """Images and dense targets only; crowded, to teach more an image."""
        rngs = [np.random.default_rng(seed) for seed in seeds]
        return self._batch([self.source.scene(rng, crowded=True) for rng in rngs], ())

    def phrases(self, seeds: Sequence[int]) -> SegmenterBatch:
        """Pairs of an image and a phrase."""
        return self._paired(seeds, exemplars=False)

    def exemplars(self, seeds: Sequence[int]) -> SegmenterBatch:
        """Pairs of an image and one to three exemplar boxes, a third of them with a phrase too."""
        return self._paired(seeds, exemplars=True)

    def _paired(self, seeds: Sequence[int], exemplars: bool) -> SegmenterBatch:
        rngs = [np.random.default_rng(seed) for seed in seeds]
        scenes = [self.source.scene(rng) for rng in rngs]
        pairs: list[_Pair] = []
        if exemplars:
            for number, (rng, scene) in enumerate(zip(rngs, scenes, strict=True)):
                drawn = [self._exemplar(rng, number, scene) for _ in range(self.phrases_per_image)]
                pairs.extend(pair for pair in drawn if pair)
        if not pairs:  # or nothing in these pictures can be an exemplar
            for number, (rng, scene) in enumerate(zip(rngs, scenes, strict=True)):
                phrases = self.sampler.phrases(rng, scene, self.phrases_per_image)
                pairs.extend(self._pair(number, scene, phrase) for phrase in phrases)
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
        boxes = [(normalized_box(positive), 1)]
        if same and rng.random() < 0.25:
            boxes.append((normalized_box(same[rng.integers(len(same))]), 1))
        if others and rng.random() < 0.5:
            pool = confusing or others
            boxes.append((normalized_box(pool[rng.integers(len(pool))]), 0))
        phrase = positive.concept.name if rng.random() < 0.35 else EXEMPLARS_ONLY
        chosen = tuple(i for i, x in enumerate(scene.instances) if x.concept.index == wanted)
        return _Pair(number, phrase, chosen, tuple(boxes))

    def _batch(self, scenes: Sequence[Scene], pairs: Sequence[_Pair]) -> SegmenterBatch:
        masks = [
            torch.stack([coverage(instance, self.grids.masks) for instance in scene.instances])
            for scene in scenes
        ]
        concepts = len(self.source.vocabulary.concepts)
        # Copies, since torch warns of pixels that it may not write to.
        images = [scene.image.copy() for scene in scenes]
        return SegmenterBatch(
            pixels=normalized(
                torch.stack([to_model_input(image, self.grids.image) for image in images])
            ),
            dense=dense_targets(scenes, masks, self.grids.tokens, concepts),
            pairs=self._collated(scenes, masks, pairs) if pairs else None,
        )

    def _collated(
        self, scenes: Sequence[Scene], masks: Sequence[Tensor], pairs: Sequence[_Pair]
    ) -> Pairs:
        text = self.tokenizer([pair.phrase for pair in pairs], padding=True, return_tensors="pt")
        wanted = [self._wanted(scenes[pair.image], pair) for pair in pairs]
        count, grid, most = len(pairs), self.grids.masks, max(1, *map(len, wanted))
        target_boxes = torch.zeros(count, most, 4)
        target_masks = torch.zeros(count, most, grid, grid)
        semantic = torch.zeros(count, grid, grid)
        presence = torch.zeros(count)
        for row, (pair, chosen) in enumerate(zip(pairs, wanted, strict=True)):
            presence[row] = 1 if chosen else (-1 if pair.instances else 0)
            if pair.instances:
                semantic[row] = masks[pair.image][list(pair.instances)].sum(0).clamp(max=1)
            if chosen:
                instances = scenes[pair.image].instances
                target_masks[row, : len(chosen)] = masks[pair.image][chosen]
                target_boxes[row, : len(chosen)] = torch.tensor(
                    [normalized_box(instances[i]) for i in chosen]
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
            counts=torch.tensor([len(chosen) for chosen in wanted]),
            semantic=semantic,
        )

    def _wanted(self, scene: Scene, pair: _Pair) -> list[int]:
        """The instances to be found, in the scene's order."""
        wanted = [i for i in pair.instances if not scene.instances[i].dont_care]
        largest = sorted(wanted, key=lambda i: -scene.instances[i].area)[: self.max_targets]
        return sorted(largest)


def name_tokens(
    tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary, longest: int
) -> tuple[Tensor, Tensor]:
    """Token ids and attention masks of all names and all plurals, ``[2, concepts, t]`` each.

    Args:
        tokenizer: the model's.
        vocabulary: the concepts.
        longest: tokens that the model reads at most.

    Raises:
        ValueError: a name is longer.
    """
    names = [concept.name for concept in vocabulary.concepts]
    plurals = [concept.plural for concept in vocabulary.concepts]
    text = tokenizer(names + plurals, padding=True, return_tensors="pt")
    for phrase, mask in zip(names + plurals, text.attention_mask, strict=True):
        if mask.sum() > longest:
            raise ValueError(f"{phrase!r} has {mask.sum()} tokens, the model reads {longest}")
    shape = (2, len(names), -1)
    return text.input_ids.view(shape), text.attention_mask.view(shape)


def _collated_boxes(pairs: Sequence[_Pair]) -> tuple[Tensor, Tensor]:
    most = max(len(pair.boxes) for pair in pairs)
    boxes = torch.full((len(pairs), most, 4), 0.5)
    labels = torch.full((len(pairs), most), PADDING_LABEL)
    for row, pair in enumerate(pairs):
        for column, (box, label) in enumerate(pair.boxes):
            boxes[row, column], labels[row, column] = torch.tensor(box), label
    return boxes, labels
