"""How good a planner checkpoint is: `python -m services.stickers.planner.evaluate --help`.

Flow: checkpoint -> `Examiner` -> `Figures` -> a table, and JSON for whoever compares. Plans are
executed on the true masks of held-out scenes; the segmenter's errors come on top in the service.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Gemma4ForConditionalGeneration

from services.stickers.coco import CocoError, CocoScenes, Part
from services.stickers.planner.devices import chosen_device
from services.stickers.planner.examiner import Answered, Examiner
from services.stickers.planner.figures import figures_of, table
from services.stickers.planner.lessons import Teacher
from services.stickers.planner.preprocessing import Preprocessor
from services.stickers.sources import SceneSource, WorldScenes
from services.stickers.splits import HELD_OUT

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "sticker-gemma4"


def main(words: Sequence[str] | None = None) -> None:
    """Examine the checkpoint that the command line names."""
    parser = _parser()
    arguments = parser.parse_args(words)
    torch.set_num_threads(arguments.threads)
    try:
        source = _source(arguments)
        device = chosen_device(arguments.device)
    except (CocoError, ValueError) as error:
        parser.error(str(error))
    model = Gemma4ForConditionalGeneration.from_pretrained(
        arguments.checkpoint, dtype=torch.float32 if device.type == "cpu" else torch.bfloat16
    )
    model = model.to(device).eval()
    teacher = Teacher(source, Preprocessor.load(arguments.checkpoint), looks=False)
    examiner = Examiner(teacher)
    seeds = HELD_OUT[: arguments.scenes]
    answered = examiner.examine(model, seeds)
    judged = examiner.judge(model, seeds[: arguments.reviews])
    figures = figures_of(answered, judged, source.vocabulary)
    milliseconds = _milliseconds(examiner, model)
    print(f"{arguments.checkpoint}, seeds {seeds.start} to {seeds.stop - 1}\n\n{table(figures)}")
    print(f"{milliseconds:.0f} ms a plan, one at a time, on {device}")
    for one in [one for one in answered if not one.exact][: arguments.failures]:
        print(f"{one.instruction.text!r}: {one.text}")
    if arguments.json is not None:
        report = {
            "checkpoint": arguments.checkpoint,
            "seeds": [seeds.start, seeds.stop],
            "milliseconds": milliseconds,
            **figures.as_json(),
            "wrong": [_wrong(one) for one in answered if not one.exact],
        }
        text = json.dumps(_finite(report), indent=1, ensure_ascii=False)
        arguments.json.write_text(text + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.stickers.planner.evaluate",
        description="Ask a planner checkpoint about scenes that it never saw, execute its plans on "
        "the true masks, and print how often the answer is exactly right: by family, by concept, "
        "and by each part of the plan.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("checkpoint", nargs="?", default=str(SHIPPED), help="a folder or hub id")
    parser.add_argument(
        "--scenes", type=int, default=300, help="scenes, one instruction of each family about each"
    )
    parser.add_argument(
        "--reviews", type=int, default=200, help="scenes, two verdicts about a candidate of each"
    )
    parser.add_argument(
        "--coco", type=Path, help="examine on this annotations file, not on sticker world"
    )
    parser.add_argument("--images", type=Path, help="the folder of its pictures")
    parser.add_argument(
        "--part",
        type=Part,
        choices=list(Part),
        default=Part.VALIDATION,
        help="which of its pictures; the trainer leaves `validation` alone",
    )
    parser.add_argument("--json", type=Path, help="write everything here, too")
    parser.add_argument("--failures", type=int, default=0, help="wrong answers to print")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=1, help="torch's, on a CPU")
    return parser


def _source(arguments: argparse.Namespace) -> SceneSource:
    if arguments.coco is None:
        return WorldScenes()
    if arguments.images is None:
        raise ValueError("--coco needs --images, the folder of its pictures")
    return CocoScenes.load(arguments.coco, arguments.images, arguments.part)


def _wrong(one: Answered) -> dict[str, object]:
    return {
        "family": one.instruction.family.value,
        "instruction": one.instruction.text,
        "right": [query.phrase for query in one.instruction.plan.include],
        "answer": one.text,
    }


def _milliseconds(examiner: Examiner, model: Gemma4ForConditionalGeneration) -> float:
    """Median wall time of a whole answer: image processing, vision, generation."""
    scene = examiner.teacher.source.scene(np.random.default_rng(HELD_OUT[0]), size=(640, 480))
    chat = examiner.teacher.preprocessor.planning_chat("the second dog from the left")
    times = []
    for _ in range(7):
        began = time.perf_counter()
        examiner.answers(model, [((scene.image,), chat)])
        times.append(time.perf_counter() - began)
    return 1000.0 * float(np.median(times))


def _finite(value: Any) -> Any:
    """`value` without the numbers that JSON does not know: shares of nothing become null."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    main()
