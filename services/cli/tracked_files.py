"""The files that `limelight track` writes while the frames come: drawn videos, JSON, annotations.

Drawn videos have their names once they are complete; what is interrupted leaves none of them.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import numpy as np
from numpy.typing import NDArray

from limelight import TrackedFrame, TrackPlanned, TrackSummary
from services.cli.annotations import AnnotationWriter
from services.codecs import render
from services.codecs.videos.writing import CutoutWriter, OverlayWriter, VideoWriter

Rgb = NDArray[np.uint8]
Masks = list[NDArray[np.bool_]]
Background = tuple[int, int, int] | Rgb


@dataclass(frozen=True, slots=True)
class TrackFiles:
    """What is to be written; None: not.

    Attributes:
        overlay: MP4 with colored masks and ids.
        cutout: WebM with what was found on transparency.
        background: MP4 with what was found on `behind`, a color or a picture.
        json_lines: where JSON Lines go.
        coco, youtube_vos: annotation files.
    """

    overlay: Path | None = None
    cutout: Path | None = None
    background: Path | None = None
    behind: Background = (255, 255, 255)
    json_lines: Path | TextIO | None = None
    coco: Path | None = None
    youtube_vos: Path | None = None

    @property
    def drawn(self) -> bool:
        """Whether pixels are needed."""
        return any((self.overlay, self.cutout, self.background))


@dataclass(slots=True)
class _Drawing:
    writer: VideoWriter
    draw: Callable[[Rgb, TrackedFrame, Masks], NDArray[np.uint8]]


class TrackFileWriter:
    """Writes `files` for the video called `name`."""

    def __init__(self, files: TrackFiles, name: str) -> None:
        self._files = files
        self._annotations = AnnotationWriter(name)
        self._annotated = files.coco is not None or files.youtube_vos is not None
        self._stack = ExitStack()
        self._drawings: list[_Drawing] | None = None
        self._begin_s: float | None = None
        self._lines: TextIO | None = None
        if isinstance(files.json_lines, Path):
            self._lines = self._stack.enter_context(files.json_lines.open("w", encoding="utf-8"))
        else:
            self._lines = files.json_lines

    def planned(self, plan: TrackPlanned) -> None:
        """Write a plan's line."""
        self._line(plan.to_dict())

    def frame(
        self, frame: TrackedFrame, pixels: Callable[[], Rgb], rate: Callable[[], float | None]
    ) -> None:
        """Write what a frame gives. `pixels`, asked for where something is drawn, are its own;
        `rate`, asked for after them, is the video's.

        Raises:
            OSError: a file cannot be written.
        """
        self._line(frame.to_dict())
        if self._annotated:
            self._annotations.add(frame)
        if not self._files.drawn:
            return
        rgb = pixels()
        if self._drawings is None:
            self._drawings = self._opened(rate())
            self._begin_s = frame.time_s
        assert self._begin_s is not None
        masks = [item.mask for item in frame.instances]
        for drawing in self._drawings:
            drawing.writer.write(drawing.draw(rgb, frame, masks), frame.time_s - self._begin_s)

    def summary(self, summary: TrackSummary) -> None:
        """Write the last line, and the annotations."""
        self._line(summary.to_dict())
        for path, made in (
            (self._files.coco, self._annotations.coco),
            (self._files.youtube_vos, self._annotations.youtube_vos),
        ):
            if path is not None:
                path.write_text(json.dumps(made()), encoding="utf-8")

    @property
    def written(self) -> Sequence[Path]:
        """The files, once it has been closed."""
        files = self._files
        paths = [files.overlay, files.cutout, files.background] if self._drawings else []
        paths += [files.json_lines if isinstance(files.json_lines, Path) else None]
        return [path for path in (*paths, files.coco, files.youtube_vos) if path is not None]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, exc, at)

    def _opened(self, rate: float | None) -> list[_Drawing]:
        files = self._files
        made: list[_Drawing] = []
        if files.overlay is not None:
            made.append(_Drawing(OverlayWriter(files.overlay, rate), _overlay))
        if files.cutout is not None:
            made.append(_Drawing(CutoutWriter(files.cutout, rate), _cutout))
        if files.background is not None:
            made.append(_Drawing(OverlayWriter(files.background, rate), self._on_background))
        for drawing in made:
            self._stack.enter_context(drawing.writer)
        return made

    def _on_background(self, rgb: Rgb, frame: TrackedFrame, masks: Masks) -> Rgb:
        return render.replace_background(rgb, masks, self._files.behind)

    def _line(self, values: dict[str, Any]) -> None:
        if self._lines is not None:
            self._lines.write(json.dumps(values, separators=(",", ":")) + "\n")
            self._lines.flush()


def _overlay(rgb: Rgb, frame: TrackedFrame, masks: Masks) -> Rgb:
    return render.overlay(
        rgb,
        masks,
        labels=[f"{item.id} {item.label}" for item in frame.instances],
        ids=[item.id for item in frame.instances],
    )


def _cutout(rgb: Rgb, frame: TrackedFrame, masks: Masks) -> NDArray[np.uint8]:
    return render.cutout(rgb, masks, crop=False)
