"""Streams begun from configs: the caller's, or one that another gateway has kept."""

from collections.abc import Callable
from dataclasses import dataclass

from limelight.v1 import video_pb2
from services.gateway.rules import TaskRules
from services.gateway.video.reading import read_config
from services.gateway.video.rules import TrackRules
from services.gateway.video.sources import StreamSource
from services.gateway.video.stream import StreamTools, TrackStream
from services.gateway.video.tasks import TrackTask
from services.stages import StageTimer


@dataclass(frozen=True, slots=True)
class StreamOpener:
    """Makes streams.

    Attributes:
        image_rules, rules: for configs.
        open_source: makes the media of a task, whose stages the timer is told of.
        tools: for the streams to work with.
    """

    image_rules: TaskRules
    rules: TrackRules
    open_source: Callable[[TrackTask, StageTimer], StreamSource]
    tools: StreamTools

    def open(self, token: str, tenant: str, config: video_pb2.TrackConfig) -> TrackStream:
        """A stream at its beginning. Raises `InvalidRequest` at the path of what is wrong."""
        task = read_config(config, self.image_rules, self.rules)
        timer = StageTimer(None, trace=self.tools.metrics.stage)
        return TrackStream(token, tenant, task, self.open_source(task, timer), timer, self.tools)
