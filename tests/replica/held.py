"""A segmenter that a test holds up: no step ends while a file exists."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray import serve

from services.replica.chassis import application
from services.replica.metrics import ServeMetrics
from services.segmenter.app import SegmenterReplica
from services.segmenter.engines import Embedding, Pair, RawDetections
from services.segmenter.engines.fake import FakeSegmenterEngine
from services.segmenter.segmenting import Segmenter
from services.segmenter.settings import SegmenterSettings


class HeldEngine(FakeSegmenterEngine):
    """The fake; `settings.model` names the file."""

    def __init__(self, settings: SegmenterSettings) -> None:
        super().__init__(settings)
        self._hold = Path(settings.model)

    def encode_images(self, images: Sequence[Any]) -> list[Embedding]:
        self._wait()
        return super().encode_images(images)

    def detect(self, pairs: Sequence[Pair]) -> list[RawDetections]:
        self._wait()
        return super().detect(pairs)

    def _wait(self) -> None:
        while self._hold.exists():
            time.sleep(0.02)


class HeldReplica(SegmenterReplica):
    def open_service(self, settings: SegmenterSettings) -> tuple[Segmenter, ServeMetrics]:
        metrics = ServeMetrics()
        return Segmenter(settings, HeldEngine(settings), metrics), metrics


def build(hold: Path, **settings: Any) -> serve.Application:
    """The application; one image is encoded at a time."""
    return application(
        HeldReplica,
        "Segmenter",
        SegmenterSettings(
            engine="fake",
            model=str(hold),
            replica_cpus=0.1,
            max_batch_images=1,
            drain_s=1,
            **settings,
        ),
    )
