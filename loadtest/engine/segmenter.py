"""SAM 3 on one device: right first, then alone, cached, many phrases, batched, and by its steps."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from limelight.paths import FieldPath
from limelight.values import ConceptQuery
from loadtest.engine.card import CardLoop
from loadtest.engine.clock import Spent, synchronize, timed, timed_calls
from loadtest.engine.pictures import distinct, jpeg
from loadtest.engine.report import BenchReport, WrongAnswer
from services.codecs.images import ImageLimits, decode
from services.deadline import Deadline
from services.replica.metrics import RecordedMetrics
from services.segmenter.engines import Pair, create
from services.segmenter.preprocessing import normalized, to_model_input
from services.segmenter.queries import exemplar_arrays
from services.segmenter.segmenting import Segmenter, open_segmenter
from services.segmenter.settings import SHIPPED, SegmenterSettings

# Random weights find hundreds of things anywhere; this many are drawn, as in a well-filled picture.
INSTANCES = 10
_PHRASES = ("dog", "red apple", "umbrella", "cat", "car", "person", "tree", "ball")
_LOGITS_TOLERANCE = 1e-3
_MASK_IOU = 0.99


class SegmenterBench:
    """Measures one checkpoint.

    Args:
        folder: the checkpoint.
        device: cpu or cuda.
        report: takes the figures.
        size: width and height of the pictures, pixels.
        runs: how often each thing is timed.
        seconds: how long throughput is measured.
    """

    def __init__(
        self,
        folder: Path,
        device: str,
        report: BenchReport,
        size: tuple[int, int],
        runs: int,
        seconds: float,
    ) -> None:
        self._folder = folder
        self._device = device
        self._report = report
        self._size = size
        self._runs = runs
        self._seconds = seconds
        self._picture = jpeg(*size)
        self._files: Iterator[bytes] = distinct(self._picture)
        self._words = count()

    def run(self) -> None:
        """All parts, those that matter most first."""
        report = self._report
        report.run("right answers", self._right, 20)
        settings = self._settings(decode_threads=8, mask_threads=8, max_batch_images=16)
        metrics = RecordedMetrics()
        segmenter = open_segmenter(settings, metrics)
        # In one event loop, which the segmenter's batchers belong to.
        report.run("calls", lambda: asyncio.run(self._calls(segmenter, metrics)), 30)
        report.run("steps", self._steps, 15)
        if self._device == "cuda":
            peak = torch.cuda.max_memory_allocated() / 2**30
            report.add("peak GPU memory so far", peak, "GiB")

    def _settings(self, **values: Any) -> SegmenterSettings:
        return SegmenterSettings(model=str(self._folder), device=self._device, **values)

    def _tokenizer(self) -> Path:
        return self._folder if (self._folder / "tokenizer.json").exists() else SHIPPED

    def _right(self) -> None:
        """Our path, batched with other pairs and on kept embeddings, against plain `Sam3Model`."""
        card = CardLoop(self._folder, self._tokenizer(), self._device, torch.float32)
        engine = create(self._settings(dtype="float32"))
        engine.load()
        size = engine.describe().image_size
        pixels = decode(self._picture, ImageLimits())
        boxes, labels = exemplar_arrays((), *self._size, FieldPath())
        other = to_model_input(pixels[::-1].copy(), size)
        images = engine.encode_images([to_model_input(pixels, size), other])
        texts = engine.encode_texts(_PHRASES[:4])
        pairs = [Pair(images[i % 2], texts[i // 2], boxes, labels) for i in range(8)]
        answers = engine.detect(pairs)
        plain = card.forward(Image.fromarray(pixels), _PHRASES[1])
        ours = answers[2]
        worst = float((plain.pred_logits[0] - ours.logits).abs().max())
        worst = max(worst, float((plain.presence_logits[0, 0] - ours.presence).abs()))
        iou = _least_iou(plain.pred_masks[0] > 0, ours.masks > 0)
        self._report.add("largest difference of logits, float32", worst, "")
        self._report.add("least IoU of masks, float32", iou, "")
        if worst > _LOGITS_TOLERANCE or iou < _MASK_IOU:
            raise WrongAnswer(f"logits differ by {worst:.2g}, masks have an IoU of {iou:.4f}")
        engine.close()

    async def _calls(self, segmenter: Segmenter, metrics: RecordedMetrics) -> None:
        card = CardLoop(
            self._folder, self._tokenizer(), self._device, segmenter_dtype(self._device)
        )
        await self._latency(segmenter, card)
        await self._throughput(segmenter, card, metrics)

    async def _latency(self, segmenter: Segmenter, card: CardLoop) -> None:
        report, runs = self._report, self._runs
        size = "x".join(map(str, self._size))

        alone = await timed_calls(lambda _: self._ask(segmenter, next(self._files), 1), runs)
        base = timed(lambda: card.answer(next(self._files), "dog", threshold=1e-9), runs)
        note = f"p95 {alone.p95_ms:.1f} ms, {INSTANCES} masks drawn; the card's loop draws all"
        report.add(f"one {size} picture, one phrase", alone.median_ms, "ms", base.median_ms, note)
        stages: defaultdict[str, list[float]] = defaultdict(list)
        for _ in range(runs):
            answer = await self._ask(segmenter, next(self._files), 1)
            for stage, spent in answer.timings_ms.items():
                stages[stage].append(spent)
        for stage, spent_ms in stages.items():
            report.add(f"… {stage}", float(np.median(spent_ms)), "ms")
        known = next(self._files)
        await self._ask(segmenter, known, 1)
        cached = await timed_calls(lambda _: self._ask(segmenter, known, 1), runs)
        report.add("a further phrase on a known picture", cached.median_ms, "ms")
        many = await timed_calls(lambda _: self._ask(segmenter, next(self._files), 16), runs)
        base = timed(
            lambda: [card.answer(self._picture, f"dog {i}", 1e-9) for i in range(16)], 2, warm_up=0
        )
        report.add("16 phrases on a new picture", many.median_ms, "ms", base.median_ms)
        report.add("16 phrases against one", many.median_ms / alone.median_ms, "times")

    async def _throughput(
        self, segmenter: Segmenter, card: CardLoop, metrics: RecordedMetrics
    ) -> None:
        done, began = 0, time.perf_counter()
        while time.perf_counter() < began + self._seconds / 2:
            card.answer(next(self._files), "dog", threshold=1e-9)
            done += 1
        base = done / (time.perf_counter() - began)
        for callers in (1, 4, 16, 32):
            metrics.batches.clear()
            end = time.perf_counter() + self._seconds
            counts = await asyncio.gather(
                *(self._call_until(segmenter, end) for _ in range(callers))
            )
            taken = self._seconds + max(0.0, time.perf_counter() - end)
            sizes = metrics.batches["encode"]
            mean = sum(sizes) / len(sizes) if sizes else 0
            self._report.add(
                f"pictures a second, {callers} callers",
                sum(counts) / taken,
                "/s",
                base,
                f"{mean:.1f} pictures a step",
            )

    async def _call_until(self, segmenter: Segmenter, end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            await self._ask(segmenter, next(self._files), 1)
            done += 1
        return done

    def _ask(self, segmenter: Segmenter, picture: bytes, phrases: int) -> Any:
        """Phrases that the text cache does not know."""
        queries = [ConceptQuery(f"dog {next(self._words) % 100_000}") for _ in range(phrases)]
        return segmenter.segment(picture, queries, 0.0, INSTANCES, Deadline())

    def _steps(self) -> None:
        """The engine's calls by themselves, their FLOPs and how near the device's peak they are."""
        report, runs = self._report, self._runs
        engine = create(self._settings())
        engine.load()
        size = engine.describe().image_size
        pixels = decode(self._picture, ImageLimits())
        tensor = to_model_input(pixels, size)
        boxes, labels = exemplar_arrays((), *self._size, FieldPath())
        spent = timed(lambda: to_model_input(decode(self._picture, ImageLimits()), size), runs)
        report.add("step: decode and resize, one thread", spent.median_ms, "ms")
        for batch in (1, 2, 4, 8, 16):
            self._step(f"encode {batch}", partial(engine.encode_images, [tensor] * batch))
        (image,) = engine.encode_images([tensor])
        report.add("an embedding", image.nbytes / 1e6, "MB")
        spent = timed(lambda: engine.encode_texts(["dog"]), runs)
        report.add("step: text 1", spent.median_ms, "ms")
        texts = engine.encode_texts([f"dog {i}" for i in range(32)])
        for batch in (1, 4, 16, 32):
            pairs = [Pair(image, texts[i], boxes, labels) for i in range(batch)]
            self._step(f"detect {batch} phrases", partial(engine.detect, pairs))
        report.run("kernels", lambda: _kernels(engine, tensor, texts[0], boxes, labels), 10)
        report.run("candidates", lambda: self._candidates(engine, tensor), 100)
        engine.close()

    def _step(self, name: str, work: Callable[[], Any]) -> None:
        """One step's time, the operations in it, and the rate that makes."""
        flops = _flops(work)
        spent = timed(work, self._runs, warm_up=1)  # counting was the first
        rate = flops / spent.median_ms / 1e9
        note = f"{flops / 1e9:.0f} GFLOP, {rate:.1f} TFLOP/s"
        self._report.add(f"step: {name}", spent.median_ms, "ms", note=note)

    def _candidates(self, engine: Any, tensor: torch.Tensor) -> None:
        """What may pay: the encoder replayed from a CUDA graph, and compiled."""
        if self._device != "cuda":
            return
        for batch in (1, 8):
            self._graphed(
                engine, normalized(torch.stack([tensor] * batch).to("cuda")).to(engine._dtype)
            )
        if self._report.left_s > 90:
            self._compiled(
                engine, normalized(torch.stack([tensor] * 8).to("cuda")).to(engine._dtype)
            )

    def _graphed(self, engine: Any, pixels: torch.Tensor) -> None:
        eager, spent = self._eager(engine, pixels)
        with torch.inference_mode():
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
                for _ in range(3):
                    _finest(engine, pixels)
            synchronize()
            with torch.cuda.graph(graph):
                out = _finest(engine, pixels)
        replayed = timed(graph.replay, self._runs)
        self._report.add(
            f"candidate: encode {len(pixels)} from a CUDA graph",
            replayed.median_ms,
            "ms",
            spent.median_ms,
            f"differs by {float((out - eager).abs().max()):.2g}; baseline: the same, eager",
        )

    def _compiled(self, engine: Any, pixels: torch.Tensor) -> None:
        eager, spent = self._eager(engine, pixels)
        compiled = torch.compile(_finest)
        began = time.perf_counter()
        with torch.inference_mode():
            differs = float((compiled(engine, pixels) - eager).abs().max())
            took = time.perf_counter() - began
            quick = timed(lambda: compiled(engine, pixels), self._runs)
        self._report.add(
            f"candidate: encode {len(pixels)} compiled",
            quick.median_ms,
            "ms",
            spent.median_ms,
            f"compiled in {took:.0f} s, differs by {differs:.2g}; baseline: the same, eager",
        )

    def _eager(self, engine: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, Spent]:
        with torch.inference_mode():
            return _finest(engine, pixels).clone(), timed(
                lambda: _finest(engine, pixels), self._runs
            )


def _finest(engine: Any, pixels: torch.Tensor) -> torch.Tensor:
    """The finest features of a batch, as the engine computes them."""
    levels: tuple[torch.Tensor, ...] = engine._sam.get_vision_features(
        pixel_values=pixels
    ).fpn_hidden_states
    return levels[0]


def segmenter_dtype(device: str) -> torch.dtype:
    """What the engine's `auto` takes."""
    return torch.bfloat16 if device == "cuda" else torch.float32


def _least_iou(a: torch.Tensor, b: torch.Tensor) -> float:
    both = (a & b).flatten(1).sum(1)
    either = (a | b).flatten(1).sum(1)
    return (
        float((both / either.clamp(min=1))[either > 0].min()) if bool((either > 0).any()) else 1.0
    )


def _flops(work: Callable[[], Any]) -> int:
    """Multiply-adds count twice, as torch counts them; attention kernels are counted too."""
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return int(counter.get_total_flops())


def _kernels(engine: Any, tensor: torch.Tensor, text: Any, boxes: Any, labels: Any) -> None:
    """Where a picture's time goes on the device, and how often the host waits for it."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiled:
        (image,) = engine.encode_images([tensor])
        engine.detect([Pair(image, text, boxes, labels)])
        synchronize()
    events = profiled.key_averages()
    by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    print(events.table(sort_by=by, row_limit=16, max_name_column_width=60))
    waits = {e.key: e.count for e in events if "ynchronize" in e.key or e.key == "aten::item"}
    print(f"waits for the device: {waits}", flush=True)
