"""How good a planner checkpoint is: its plans, executed on the true masks of scenes it never saw.

Flow: seeds -> scenes and instructions -> greedy generation -> `services.planner.calls` -> `Oracle`
-> the share of exactly right answers, by family. Strings are not compared: another plan with the
same answer is as good. `python -m services.stickers.planner.evaluate --help` prints the figures of
a checkpoint.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, Gemma4ForConditionalGeneration
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from services.planner.calls import CallError, parse_call, plan_from_call
from services.stickers.instructions import Family, Instruction, InstructionWriter
from services.stickers.planner.data import Teacher
from services.stickers.planner.oracle import Oracle
from services.stickers.scenes import Scene, random_scene
from services.stickers.splits import HELD_OUT
from services.stickers.vocabulary import Vocabulary

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "sticker-gemma4"
_MAX_NEW_TOKENS = 96


@dataclass(frozen=True)
class Answered:
    """One instruction, what the model wrote, and whether its plan's answer is exactly right."""

    instruction: Instruction
    text: str
    exact: bool


@dataclass(frozen=True)
class Examiner:
    """Asks a model for plans and marks them."""

    teacher: Teacher
    oracle: Oracle
    batch: int = 16

    def examine(
        self,
        model: Gemma4ForConditionalGeneration,
        seeds: Iterable[int],
        each: int = 1,
        size: tuple[int, int] | None = None,
    ) -> list[Answered]:
        """`each` instructions of every family for each seed's scene, answered and marked.

        Args:
            model: in evaluation mode.
            seeds: of the scenes.
            each: instructions a family and scene; those without a sound truth are left out.
            size: of the scenes in pixels; by default drawn by the world's definition.
        """
        asked: list[tuple[Scene, Instruction]] = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            scene = random_scene(rng, size=size)
            for family in list(Family) * each:
                instruction = self.teacher.writer.generate(scene, rng, family)
                if instruction is not None:
                    asked.append((scene, instruction))
        answered = []
        for start in range(0, len(asked), self.batch):
            part = asked[start : start + self.batch]
            texts = self.answers(model, [(scene.image, i.text) for scene, i in part])
            for (scene, instruction), text in zip(part, texts, strict=True):
                exact = self._executed(text, scene) == instruction.truth
                answered.append(Answered(instruction, text, exact))
        return answered

    @torch.inference_mode()
    def answers(
        self, model: Gemma4ForConditionalGeneration, asked: Sequence[tuple[np.ndarray, str]]
    ) -> list[str]:
        """What the model writes for each image (uint8 ``[h, w, 3]``) and instruction."""
        tokenizer = self.teacher.tokenizer
        images = self.teacher.image_processor(
            images=[image for image, _ in asked], return_tensors="pt"
        )
        prompts = []
        for (_, text), soft in zip(asked, images["num_soft_tokens_per_image"], strict=True):
            picture = f"<|image>{'<|image|>' * int(soft)}<image|>"
            prompts.append(self.teacher.prompt(text).replace("<|image|>", picture))
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        made = model.generate(
            **inputs,
            pixel_values=images["pixel_values"].float(),
            image_position_ids=images["image_position_ids"],
            do_sample=False,
            max_new_tokens=_MAX_NEW_TOKENS,
        )
        return list(
            tokenizer.batch_decode(
                made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=False
            )
        )

    def _executed(self, text: str, scene: Scene) -> frozenset[int] | None:
        try:
            return self.oracle.execute(plan_from_call(parse_call(text)), scene)
        except CallError:
            return None


def shares(answered: Sequence[Answered]) -> dict[str, float]:
    """The share of exact answers: over all, the mean over families, and each family."""
    marks: dict[str, list[bool]] = defaultdict(list)
    for one in answered:
        marks[one.instruction.family].append(one.exact)
    families = {family: float(np.mean(marks[family])) for family in sorted(marks)}
    return {
        "all": float(np.mean([one.exact for one in answered])),
        "family_mean": float(np.mean(list(families.values()))),
        **families,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Mark a planner checkpoint on held-out scenes.")
    parser.add_argument("checkpoint", type=Path, nargs="?", default=SHIPPED)
    parser.add_argument("--scenes", type=int, default=300, help="one instruction a family each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--failures", type=int, default=0, help="how many wrong answers to print")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = Gemma4ForConditionalGeneration.from_pretrained(arguments.checkpoint).eval()
    writer = InstructionWriter(Vocabulary.load())
    teacher = Teacher(
        writer,
        AutoTokenizer.from_pretrained(arguments.checkpoint),
        Gemma4ImageProcessorPil.from_pretrained(arguments.checkpoint),
    )
    examiner = Examiner(teacher, Oracle(writer.phrases))
    seeds = HELD_OUT[: arguments.scenes]
    answered = examiner.examine(model, seeds)
    print(f"{len(answered)} instructions, seeds {seeds.start} to {seeds.stop - 1}")
    for name, share in shares(answered).items():
        print(f"{name:12} {share:.3f}")
    for one in [one for one in answered if not one.exact][: arguments.failures]:
        print(f"{one.instruction.text!r}: {one.text}")
    print(f"{_milliseconds(examiner, model):.0f} ms a plan, one at a time")


def _milliseconds(examiner: Examiner, model: Gemma4ForConditionalGeneration) -> float:
    """Median wall time of a whole answer: image processing, vision, generation."""
    image = random_scene(np.random.default_rng(HELD_OUT[0]), size=(640, 480)).image
    times = []
    for _ in range(7):
        began = time.perf_counter()
        examiner.answers(model, [(image, "the second dog from the left")])
        times.append(time.perf_counter() - began)
    return 1000.0 * float(np.median(times))


if __name__ == "__main__":
    main()
