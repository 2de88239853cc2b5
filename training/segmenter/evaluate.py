"""How good a segmenter is: ``python -m training.segmenter.evaluate [CHECKPOINT]``.

Plain `Sam3Model` calls on held-out scenes, without any service in between, scored as
`training.evaluation` scores the service's answers.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerBase, Sam3Model
from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput

from limelight.masks import encode_rle
from services.codecs import strict_json
from services.segmenter.preprocessing import normalized, to_model_input
from services.segmenter.settings import SHIPPED
from training.datasets.sources import SceneSource, WorldScenes
from training.evaluation.matching import compare, detected, share_of
from training.segmenter.models import open_checkpoint
from training.segmenter.sampling import PhraseSampler
from training.world.phrases import PhraseBook
from training.world.splits import HELD_OUT
from training.world.vocabulary import Vocabulary

_THRESHOLD = 0.5


@torch.no_grad()
def evaluate(
    model: Sam3Model,
    tokenizer: PreTrainedTokenizerBase,
    sampler: PhraseSampler,
    source: SceneSource,
    seeds: Sequence[int],
    phrases_per_scene: int = 4,
) -> dict[str, float]:
    """Figures by name on one scene for each seed; empty without seeds.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        sampler: draws `phrases_per_scene` phrases from the same seeds.
        source: draws the scenes, which the model was not trained on.
        seeds: of the scenes.
        phrases_per_scene: phrases asked about each.
    """
    comparisons, presence, false = [], [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        scene = source.scene(rng)
        pixels = normalized(to_model_input(scene.image.copy(), model.config.image_size))
        vision = model.get_vision_features(pixels[None].to(model.device))
        for phrase in sampler.phrases(rng, scene, phrases_per_scene):
            matching = sampler.book.matching_concepts(phrase)
            targets = [x for x in scene.instances if x.concept.index in matching]
            masks, present = predict(model, tokenizer, vision, scene.size, phrase)
            wanted = [encode_rle(x.mask) for x in targets if not x.dont_care]
            dont_care = [encode_rle(x.mask) for x in targets if x.dont_care]
            comparisons.append(compare([encode_rle(mask) for mask in masks], wanted, dont_care))
            if wanted or not targets:
                presence.append(present == bool(wanted))
            if not targets:
                false.append(len(masks))
    if not comparisons:
        return {}
    found = detected(comparisons)
    return {
        "f1": found.f1,
        "f1_75": found.f1_strict,
        "precision": found.precision,
        "recall": found.recall,
        "mean_iou": found.mean_iou,
        "presence": share_of(sum(presence), len(presence)),
        "false_per_absent": share_of(sum(false), len(false)),
    }


@torch.no_grad()
def predict(
    model: Sam3Model,
    tokenizer: PreTrainedTokenizerBase,
    vision: Sam3VisionEncoderOutput,
    size: tuple[int, int],
    phrase: str,
) -> tuple[np.ndarray, bool]:
    """What the model finds in one encoded image of `size` (width, height) for one phrase.

    Returns:
        Masks, bool ``[n, h, w]``, and whether the model says that the concept is present.
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


def main(words: Sequence[str] | None = None) -> None:
    """Evaluate the checkpoint named on the command line; prints one line of JSON."""
    parser = argparse.ArgumentParser(description="Measure a segmenter on held-out scenes.")
    parser.add_argument("checkpoint", nargs="?", default=str(SHIPPED), help="a folder or hub id")
    parser.add_argument("--scenes", type=int, default=300, help="(%(default)s)")
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    try:
        model, tokenizer = open_checkpoint(arguments.checkpoint)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    figures = evaluate(
        model,
        tokenizer,
        PhraseSampler(PhraseBook(Vocabulary.load())),
        WorldScenes(),
        HELD_OUT[: arguments.scenes],
    )
    rounded = {name: round(value, 3) for name, value in figures.items()}
    print(strict_json.dumps(strict_json.finite({"scenes": arguments.scenes, **rounded})))


if __name__ == "__main__":
    main()
