"""Gemma 4 on one device: what a plan of sixty tokens takes, alone and eight at once."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from loadtest.engine.clock import timed
from loadtest.engine.random_weights import gemma_e4b
from loadtest.engine.report import BenchReport
from services.planner.engines import Prompt, PromptImage
from services.planner.engines.transformers import TransformersPlannerEngine
from services.planner.metrics import RecordedPlannerMetrics
from services.planner.prompt import PLAN_TOOL, plan_messages
from services.planner.settings import PlannerSettings

PLAN_TOKENS = 60
# Of English and JSON in a tokenizer of Gemma's size.
_CHARACTERS_A_TOKEN = 4.0


class ForcedPlanner(TransformersPlannerEngine):
    """The engine with answers of `PLAN_TOKENS` tokens, whatever the weights would say.

    With `full_size` it runs a Gemma 4 E4B of random weights. The shipped tokenizer and chat
    template stand in for Gemma's, so the text of the prompt is cut to the length it has there.
    """

    def __init__(self, device: str, *, full_size: bool) -> None:
        super().__init__(
            PlannerSettings(device=device, feature_cache_bytes=0), RecordedPlannerMetrics()
        )
        self._full_size = full_size

    def load(self) -> None:
        super().load()
        self._generation.min_new_tokens = PLAN_TOKENS
        self._generation.max_new_tokens = PLAN_TOKENS
        if not self._full_size:
            return
        small = self._model.config
        names = ("image_token_id", "boi_token_id", "eoi_token_id", "video_token_id")
        self._model = gemma_e4b(str(self._device), {name: getattr(small, name) for name in names})
        self._images.max_soft_tokens = 280
        self._images.pooling_kernel_size = self._model.config.vision_config.pooling_kernel_size

    def _text(self, prompt: Prompt, counts: Any) -> str:
        text = super()._text(prompt, counts)
        if not self._full_size:
            return text
        wanted = round(prompt_characters() / _CHARACTERS_A_TOKEN)
        words = self._tokenizer.decode(list(range(40, 100)) * (wanted // 60 + 1))
        ids = self._tokenizer(words, add_special_tokens=False)["input_ids"][:wanted]
        more: str = self._tokenizer.decode(ids)
        return text + more


def prompt_characters() -> int:
    """How long the real prompt's text is."""
    return len(str(plan_messages("the second dog from the left"))) + len(str(PLAN_TOOL))


class PlannerBench:
    """Measures plans.

    Args:
        device: cpu or cuda.
        report: takes the figures.
        size: width and height of the pictures, pixels.
        runs: how often each thing is timed.
        full_size: E4B with random weights, or the shipped checkpoint.
    """

    def __init__(
        self, device: str, report: BenchReport, size: tuple[int, int], runs: int, full_size: bool
    ) -> None:
        self._report = report
        self._size = size
        self._runs = runs
        self._engine = ForcedPlanner(device, full_size=full_size)

    def run(self) -> None:
        self._engine.load()
        self._report.run("plans", self._plans, 20)
        self._report.run("the card's loop", self._card, 15)
        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated() / 2**30
            self._report.add("peak GPU memory, planner beside the rest", peak, "GiB")

    def _prompts(self, number: int) -> list[Prompt]:
        width, height = self._size
        rgb = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
        messages = plan_messages("the second dog from the left")
        return [Prompt(messages, [PromptImage(rgb)], [PLAN_TOOL])] * number

    def _plans(self) -> None:
        engine, report = self._engine, self._report
        for number in (1, 8):
            prompts = self._prompts(number)
            spent = timed(partial(engine.generate, prompts, lambda: True), self._runs, 1)
            note = f"{spent.median_ms / PLAN_TOKENS:.2f} ms a token, all of it counted"
            report.add(f"{number} plans of {PLAN_TOKENS} tokens", spent.median_ms, "ms", note=note)
        rgb = self._prompts(1)[0].pictures
        spent = timed(lambda: engine._encoded(rgb), self._runs, 1)
        report.add("… of which the picture, prepared and encoded", spent.median_ms, "ms")
        engine._generation.min_new_tokens = engine._generation.max_new_tokens = 1
        first = timed(lambda: engine.generate(self._prompts(1), lambda: True), self._runs, 1)
        report.add("… to the first token", first.median_ms, "ms")
        engine._generation.min_new_tokens = engine._generation.max_new_tokens = PLAN_TOKENS

    def _card(self) -> None:
        """`generate` alone, as the card calls it, on text of the same length."""
        engine = self._engine
        features = engine._encoded(self._prompts(1)[0].pictures)
        text = engine._text(self._prompts(1)[0], iter([len(features[0])]))
        ids = engine._tokenizer([text], add_special_tokens=False, return_tensors="pt")["input_ids"]
        self._report.add("tokens of the prompt, picture included", float(ids.shape[1]), "")
        ids = ids.to(engine._device)
        # Placeholders as plain text: the card's processor would put the picture's tokens there.
        ids[ids == engine._model.config.image_token_id] = 50
        forced = GenerationConfig(
            max_new_tokens=PLAN_TOKENS, min_new_tokens=PLAN_TOKENS, do_sample=False, pad_token_id=0
        )

        def answer(**more: Any) -> Any:
            with torch.inference_mode():
                return engine._model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    generation_config=forced,
                    **more,
                )

        plain = timed(answer, self._runs, 1)
        self._report.add("plain generate, text alone", plain.median_ms, "ms")
        if torch.cuda.is_available() and self._report.left_s > 60:
            static = timed(lambda: answer(cache_implementation="static"), 2, 2)
            self._report.add(
                "candidate: static cache, compiled", static.median_ms, "ms", plain.median_ms
            )


def bench(report: BenchReport, device: str, size: Sequence[int], runs: int, full: bool) -> None:
    """Run the planner's part."""
    PlannerBench(device, report, (size[0], size[1]), runs, full).run()
