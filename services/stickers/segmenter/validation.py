"""How good the model is while it trains: plain `Sam3Model` calls on scenes it never saw.

The figures of the world's definition. The trainer asks for the validation seeds;
``python -m services.stickers.segmenter.validation FOLDER`` measures a checkpoint on the held-out
ones, without any service in between.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Sam3Model
from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput

from services.segmenter.preprocessing import to_model_input
from services.stickers.phrases import PhraseBook
from services.stickers.scenes import Instance
from services.stickers.segmenter.sampling import PhraseSampler
from services.stickers.sources import SceneSource, WorldScenes
from services.stickers.splits import HELD_OUT
from services.stickers.vocabulary import Vocabulary

_THRESHOLD = 0.5


@dataclass(frozen=True)
class Figures:
    """Counts over all (scene x phrase) pairs, and what follows from them.

    Attributes:
        pairs: phrases asked.
        hits, hits_75: predictions matched to a wanted instance at IoU 0.5 and 0.75.
        predicted: predictions that count (those on "don't care" stickers do not).
        wanted: instances that should have been found.
        iou_sum: of the matches at 0.5.
        presence_pairs, presence_right: pairs whose presence is known, and right.
        absent: pairs of which nothing is there.
        false_instances: predictions in those.
    """

    pairs: float
    hits: float
    hits_75: float
    predicted: float
    wanted: float
    iou_sum: float
    presence_pairs: float
    presence_right: float
    absent: float
    false_instances: float

    def as_dict(self) -> dict[str, float]:
        """The figures by name, for a log."""
        both = max(1, self.predicted + self.wanted)
        return {
            "f1": 2 * self.hits / both,
            "f1_75": 2 * self.hits_75 / both,
            "precision": self.hits / max(1, self.predicted),
            "recall": self.hits / max(1, self.wanted),
            "mean_iou": self.iou_sum / max(1, self.hits),
            "presence": self.presence_right / max(1, self.presence_pairs),
            "false_per_absent": self.false_instances / max(1, self.absent),
        }


@torch.no_grad()
def validate(
    model: Sam3Model,
    tokenizer: PreTrainedTokenizerBase,
    sampler: PhraseSampler,
    source: SceneSource,
    seeds: Sequence[int],
    phrases_per_scene: int = 4,
) -> Figures:
    """Measure the model on the scenes of these seeds.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        sampler: draws the phrases from the same seeds.
        source: draws the scenes, which the model was not trained on.
        seeds: one scene each.
        phrases_per_scene: phrases asked about each.
    """
    totals = np.zeros(10)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        scene = source.scene(rng)
        pixels = to_model_input(scene.image.copy(), model.config.image_size)
        vision = model.get_vision_features(pixels[None].to(model.device))
        for phrase in sampler.phrases(rng, scene, phrases_per_scene):
            matching = sampler.book.matching_concepts(phrase)
            targets = [x for x in scene.instances if x.concept.index in matching]
            masks, present = predict(model, tokenizer, vision, scene.size, phrase)
            totals += tally(masks, present, targets)
    return Figures(*(float(value) for value in totals))


@torch.no_grad()
def predict(
    model: Sam3Model,
    tokenizer: PreTrainedTokenizerBase,
    vision: Sam3VisionEncoderOutput,
    size: tuple[int, int],
    phrase: str,
) -> tuple[np.ndarray, bool]:
    """What the model finds in one encoded picture for one phrase.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        vision: the picture, encoded.
        size: the picture's width and height in pixels.
        phrase: what to find.

    Returns:
        Masks, bool ``[n, h, w]``, and whether the concept is said to be there.
    """
    text = tokenizer([phrase], return_tensors="pt").to(model.device)
    output = model(
        vision_embeds=vision, input_ids=text.input_ids, attention_mask=text.attention_mask
    )
    presence = output.presence_logits[0].sigmoid()
    scores = output.pred_logits[0].sigmoid() * presence
    logits = output.pred_masks[0, scores > _THRESHOLD]
    if not len(logits):
        return np.zeros((0, size[1], size[0]), bool), bool(presence > _THRESHOLD)
    masks = functional.interpolate(logits[None], size[::-1], mode="bilinear")[0] > 0
    return masks.cpu().numpy(), bool(presence > _THRESHOLD)


def tally(masks: np.ndarray, present: bool, targets: Sequence[Instance]) -> np.ndarray:
    """One answer as the counts of `Figures`, in its order.

    Args:
        masks: bool ``[n, h, w]``.
        present: whether the model said that the concept is there.
        targets: all instances of the phrase, "don't care" ones among them.
    """
    overlaps = np.zeros((len(masks), len(targets)))
    for row, mask in enumerate(masks):
        area = int(mask.sum())
        for column, target in enumerate(targets):
            x0, y0, x1, y1 = target.box
            shared = int((mask[y0:y1, x0:x1] & target.visible).sum())
            overlaps[row, column] = shared / max(1, area + target.area - shared)
    wanted = sum(not target.dont_care for target in targets)
    hits, ignored, matched = 0, 0, []
    for row in np.argsort(-overlaps.max(1, initial=0.0)):
        best = int(overlaps[row].argmax()) if len(targets) else 0
        if len(targets) and overlaps[row, best] >= 0.5:
            if targets[best].dont_care:
                ignored += 1
            else:
                hits += 1
                matched.append(overlaps[row, best])
                overlaps[:, best] = 0
    known = bool(wanted or not targets)
    return np.array(
        [
            1,
            hits,
            sum(iou >= 0.75 for iou in matched),
            len(masks) - ignored,
            wanted,
            sum(matched),
            known,
            known and present == bool(wanted),
            not targets,
            0 if targets else len(masks),
        ],
        dtype=float,
    )


def main() -> None:
    """Measure the checkpoint named on the command line; prints one line of JSON."""
    parser = argparse.ArgumentParser(description="Measure a segmenter on held-out scenes.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures = validate(
        Sam3Model.from_pretrained(arguments.folder).eval(),
        AutoTokenizer.from_pretrained(arguments.folder),
        PhraseSampler(PhraseBook(Vocabulary.load())),
        WorldScenes(),
        HELD_OUT[: arguments.scenes],
    )
    rounded = {name: round(value, 3) for name, value in figures.as_dict().items()}
    print(json.dumps({"scenes": arguments.scenes, **rounded}))


if __name__ == "__main__":
    main()
