"""How good a planner is: ``python -m training.planner.evaluate [CHECKPOINT]``.

Plans are executed on the true masks of held-out scenes; the segmenter's errors come on top in the
service.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import Gemma4ForConditionalGeneration

from services.codecs import strict_json
from services.planner.engines.parts import check_vocabulary
from services.planner.settings import SHIPPED
from services.replica.checkpoints import GEMMA4
from services.replica.loading import load_model
from training.datasets.coco import DatasetSplit
from training.datasets.sources import SceneSource, WorldScenes
from training.kit.command import add_skipping, chosen_device, coco
from training.planner.evaluator import PlanEvaluator
from training.planner.examples import ExampleBuilder
from training.planner.figures import figures_of, table
from training.planner.preprocessing import Preprocessor
from training.world.splits import HELD_OUT


def main(words: Sequence[str] | None = None) -> None:
    """Evaluate the checkpoint that the command line names."""
    parser = _parser()
    arguments = parser.parse_args(words)
    torch.set_num_threads(arguments.threads)
    try:
        source: SceneSource = (
            WorldScenes() if arguments.coco is None else coco(arguments).only(arguments.split)
        )
        device = chosen_device(arguments.device)
        model = load_model(
            Gemma4ForConditionalGeneration,
            arguments.checkpoint,
            GEMMA4,
            dtype=torch.float32 if device.type == "cpu" else torch.bfloat16,
        )
        preprocessor = Preprocessor.load(arguments.checkpoint)
        check_vocabulary(arguments.checkpoint, preprocessor.tokenizer, model)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    model = model.to(device)
    evaluator = PlanEvaluator(ExampleBuilder(source, preprocessor, labeled=False))
    seeds = HELD_OUT[: arguments.scenes]
    answers = evaluator.plans(model, seeds)
    reviews = evaluator.reviews(model, seeds[: arguments.reviews])
    figures = figures_of(answers, reviews, source.vocabulary)
    milliseconds = _milliseconds(evaluator, model)
    print(f"{arguments.checkpoint}, seeds {seeds.start} to {seeds.stop - 1}\n\n{table(figures)}")
    print(f"{milliseconds:.0f} ms a plan, one at a time, on {device}")
    wrong = [one for one in answers if not one.exact]
    for one in wrong[: arguments.failures]:
        print(f"{one.instruction.text!r}: {one.text}")
    if arguments.json is not None:
        report = {
            "checkpoint": arguments.checkpoint,
            "seeds": [seeds.start, seeds.stop],
            "milliseconds": milliseconds,
            **figures.as_json(),
            "wrong": [
                {
                    "family": one.instruction.family.value,
                    "instruction": one.instruction.text,
                    "right": [query.phrase for query in one.instruction.plan.include],
                    "answer": one.text,
                }
                for one in wrong
            ],
        }
        # Shares of nothing are not finite, and become null.
        text = strict_json.dumps(strict_json.finite(report), indent=1, ascii_only=False)
        arguments.json.write_text(text + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.planner.evaluate",
        description="Ask a planner checkpoint about held-out scenes, execute its plans on the true "
        "masks, and print how often the answer is exactly right: by family, by concept, and by "
        "each part of the plan.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("checkpoint", nargs="?", default=str(SHIPPED), help="a folder or hub id")
    parser.add_argument(
        "--scenes", type=int, default=300, help="scenes, one instruction of each family about each"
    )
    parser.add_argument(
        "--reviews", type=int, default=200, help="scenes, two verdicts about a candidate of each"
    )
    parser.add_argument("--coco", type=Path, help="annotations to evaluate on, not sticker world")
    parser.add_argument("--images", type=Path, help="folder of their images")
    add_skipping(parser)
    parser.add_argument(
        "--split",
        type=DatasetSplit,
        choices=list(DatasetSplit),
        default=DatasetSplit.VALIDATION,
        help="which of the images; the trainer leaves `validation` alone",
    )
    parser.add_argument("--json", type=Path, help="write everything here, too")
    parser.add_argument("--failures", type=int, default=0, help="wrong answers to print")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=1, help="torch's, on a CPU")
    return parser


def _milliseconds(evaluator: PlanEvaluator, model: Gemma4ForConditionalGeneration) -> float:
    """Median wall time of a whole answer: image processing, vision, generation."""
    builder = evaluator.builder
    scene = builder.source.scene(np.random.default_rng(HELD_OUT[0]), size=(640, 480))
    chat = builder.preprocessor.planning_chat("the second dog from the left")
    times = []
    for _ in range(7):
        began = time.perf_counter()
        evaluator.answers(model, [((scene.image,), chat)])
        times.append(time.perf_counter() - began)
    return 1000.0 * float(np.median(times))


if __name__ == "__main__":
    main()
