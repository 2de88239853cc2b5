"""A segmenter whose first replica fails batch after batch, and whose next one works."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray import serve

from services.replica.chassis import application
from services.replica.metrics import ServeMetrics
from services.segmenter.app import SegmenterReplica
from services.segmenter.engines import Embedding
from services.segmenter.engines.fake import FakeSegmenterEngine
from services.segmenter.segmenting import Segmenter
from services.segmenter.settings import SegmenterSettings


class FailingEngine(FakeSegmenterEngine):
    def encode_images(self, images: Sequence[Any]) -> list[Embedding]:
        raise ValueError("broken on purpose")


class FailingReplica(SegmenterReplica):
    """Fails if the file that `settings.model` names is missing, and makes it."""

    def open_service(self, settings: SegmenterSettings) -> tuple[Segmenter, ServeMetrics]:
        marker = Path(settings.model)
        if marker.exists():
            return super().open_service(settings)
        marker.touch()
        metrics = ServeMetrics()
        return Segmenter(settings, FailingEngine(settings), metrics), metrics


def build(marker: Path) -> serve.Application:
    settings = SegmenterSettings(engine="fake", model=str(marker), replica_cpus=0.1, drain_s=1)
    return application(FailingReplica, "Segmenter", settings)
