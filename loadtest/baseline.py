"""The plain loop that the service is held against: the same model and the same work, no service.

One picture after the other is decoded, resized, encoded, asked for its phrase, and its masks are
stretched, measured and run-length coded: by the segmenter's own functions, with its weights and its
settings, so that the difference is the service and nothing else. Phrases are encoded once and
remembered, as in the service. There is no batching, no cache of pictures and no second thread but
those of the model.

It runs as `python -m loadtest.baseline FOLDER`, in a process of its own with the environment of the
stack's processes, and obeys lines on standard input: each is a JSON `{"seconds", "threads"}`, and
answered by a JSON line.
"""

import asyncio
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Self

from limelight.paths import FieldPath
from limelight.values import RLE
from loadtest.pictures import Picture
from services.local.runtime import with_allocator

# The service's default, where a caller gives none.
SCORE_THRESHOLD = 0.5
_WARM_UP = 3


@dataclass(frozen=True)
class PlainRun:
    """One run of the loop.

    Attributes:
        threads: of the model.
        pictures: answered, in `seconds`.
        cpu_s: seconds of CPU that took.
        stages_ms: mean of each stage.
        digests: of the answer about each original, to be compared with the service's.
    """

    threads: int
    pictures: int
    seconds: float
    cpu_s: float
    stages_ms: dict[str, float]
    digests: tuple[str, ...]

    @property
    def throughput(self) -> float:
        """Pictures a second."""
        return self.pictures / self.seconds


class Baseline:
    """The loop's process, started with `async with`; `run` has it loop for a while."""

    def __init__(self, pictures: Sequence[Picture], folder: Path, settings: Mapping[str, str]):
        self._pictures = pictures
        self._folder = folder
        self._settings = settings

    async def __aenter__(self) -> Self:
        for number, picture in enumerate(self._pictures):
            (self._folder / f"{number:04}.jpg").write_bytes(picture.content)
        work = {"settings": self._settings, "phrases": [p.phrases[0] for p in self._pictures]}
        (self._folder / "work.json").write_text(json.dumps(work), encoding="utf-8")
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loadtest.baseline", str(self._folder)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=with_allocator(os.environ),
            limit=1 << 20,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def run(self, seconds: float, threads: int) -> PlainRun:
        """Loop for `seconds` with `threads` threads of the model.

        Raises:
            RuntimeError: the process ended; what it said is on standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = json.dumps({"seconds": seconds, "threads": threads})
        self._process.stdin.write(f"{order}\n".encode())
        answer = await self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the baseline's process ended")
        values = json.loads(answer)
        return PlainRun(**{**values, "digests": tuple(values["digests"])})


def digest(answers: Iterable[RLE]) -> str:
    """A digest of an answer's masks, whatever their order."""
    state = blake2b(digest_size=8)
    for counts in sorted(rle.counts for rle in answers):
        state.update(counts + b"\n")
    return state.hexdigest()


def main() -> None:
    """Load, then obey standard input until it ends."""
    # The models are imported here alone: whoever only starts this process does without.
    import torch

    from services.codecs.images import ImageLimits, decode
    from services.domain import QueryResult
    from services.replica.cache import LruCache
    from services.replica.metrics import RecordedMetrics
    from services.segmenter.detecting import Detector, QueuedPair
    from services.segmenter.engines import create
    from services.segmenter.postprocessing import Suppression, draw
    from services.segmenter.preprocessing import to_model_input
    from services.segmenter.queries import exemplar_arrays
    from services.segmenter.settings import SegmenterSettings

    folder = Path(sys.argv[1])
    work = json.loads((folder / "work.json").read_text(encoding="utf-8"))
    settings = SegmenterSettings(**work["settings"])
    engine = create(settings)
    engine.load()
    detector = Detector(
        engine,
        LruCache("text", settings.text_cache_bytes, RecordedMetrics()),
        settings.mask_threshold,
        Suppression(settings.nms_threshold, settings.nms_measure),
    )
    limits = ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)
    pictures = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]

    def answer(number: int, spent: dict[str, float]) -> QueryResult:
        marks = [time.perf_counter()]
        pixels = decode(pictures[number], limits)
        height, width = pixels.shape[:2]
        tensor = to_model_input(pixels, engine.describe().image_size)
        marks.append(time.perf_counter())
        (embedding,) = engine.encode_images([tensor])
        marks.append(time.perf_counter())
        boxes, labels = exemplar_arrays((), width, height, FieldPath())
        phrase = work["phrases"][number]
        question = QueuedPair(
            embedding, phrase, boxes, labels, SCORE_THRESHOLD, settings.max_instances
        )
        (candidates,) = detector.answer([question])
        marks.append(time.perf_counter())
        memory = settings.mask_memory_bytes
        result = draw(candidates, height, width, settings.mask_threshold, memory)
        marks.append(time.perf_counter())
        for index, stage in enumerate(("decode", "encode", "detect", "masks")):
            spent[stage] += marks[index + 1] - marks[index]
        return result

    digests: tuple[str, ...] = ()
    for line in sys.stdin:
        order = json.loads(line)
        torch.set_num_threads(order["threads"])
        for number in range(_WARM_UP):
            answer(number % len(pictures), defaultdict(float))
        if not digests:
            found = (answer(number, defaultdict(float)) for number in range(len(pictures)))
            digests = tuple(digest(item.mask for item in one.detections) for one in found)
        spent: dict[str, float] = defaultdict(float)
        done, cpu, began = 0, time.process_time(), time.perf_counter()
        while time.perf_counter() < began + order["seconds"]:
            answer(done % len(pictures), spent)
            done += 1
        run = PlainRun(
            threads=order["threads"],
            pictures=done,
            seconds=time.perf_counter() - began,
            cpu_s=time.process_time() - cpu,
            stages_ms={stage: 1000 * seconds / done for stage, seconds in spent.items()},
            digests=digests,
        )
        print(json.dumps(asdict(run)), flush=True)


if __name__ == "__main__":
    main()
