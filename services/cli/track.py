"""`limelight track`: one video, followed from its first frame to its last."""

import sys
from pathlib import Path
from typing import Annotated, TextIO

import typer
from PIL import ImageColor

from limelight import TimeRange
from limelight.client import TrackOptions
from services.cli import options
from services.cli.connection import resolve
from services.cli.console import Exit, err, fail, out
from services.cli.following import TrackReport, follow
from services.cli.footage import footage_of
from services.cli.segment import queries_of
from services.cli.tracked_files import Background, TrackFiles, TrackFileWriter
from services.codecs.images import decode
from services.codecs.videos.selection import FrameSelection
from services.codecs.videos.sources import source_of
from services.errors import ServiceError

EXAMPLES = """
[bold]Examples[/bold]

  limelight track clip.mp4 "the dog on the left" --overlay out.mp4

  limelight track clip.mp4 --phrase dog --phrase "red ball" --json tracks.jsonl

  limelight track frames/ "the girl" --cutout girl.webm --background beach.jpg

  ffmpeg -i rtsp://camera/stream -f matroska - | limelight track - --phrase person --json -

[bold]--json[/bold] writes a line with the plan, one a frame, and a summary

  {"plan": {...}, "at_frame": 0, "cause": "start"}

  {"frame": 0, "time_s": 0.0, "instances": [{"id", "label", "score", "box", "mask", ...}], ...}

  {"summary": "...", "frames": 60, "objects": [{"id", "label", "first_frame", ...}], ...}
"""


def track(
    clip: Annotated[
        str,
        typer.Argument(
            metavar="CLIP",
            help="A video's file, a folder of pictures, - for standard input, or camera:0.",
        ),
    ],
    instruction: options.Instruction = None,
    phrase: options.Phrases = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="x0,y0,x1,y1[:neg]",
            help="A box, in pixels of the first frame, around an example of what is wanted, or "
            "(:neg) is not; may be repeated. With one --phrase it refines the phrase.",
        ),
    ] = None,
    overlay: Annotated[
        Path | None,
        typer.Option(metavar="FILE.mp4", help="Write the video with colored masks and ids."),
    ] = None,
    cutout: Annotated[
        Path | None,
        typer.Option(metavar="FILE.webm", help="Write what was found on transparency."),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="COLOR|IMAGE",
            help="Put what was found on a color (white, '#ff8800') or on a picture.",
        ),
    ] = None,
    background_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.mp4",
            help="Where --background is written. Default: CLIP-background.mp4, in this folder.",
        ),
    ] = None,
    json_lines: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Write JSON Lines, frame by frame; - prints them."
        ),
    ] = None,
    coco: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the tracks as COCO annotations.")
    ] = None,
    youtube_vos: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the tracks as YouTube-VOS annotations."),
    ] = None,
    threshold: options.Threshold = None,
    max_objects: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Track at most this many at once, the best first."),
    ] = None,
    stride: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="Track every N-th frame.")
    ] = 1,
    max_side: Annotated[
        int | None,
        typer.Option(
            min=16, max=8192, metavar="PIXELS", help="Scale frames down to this longer side."
        ),
    ] = None,
    start: Annotated[
        float, typer.Option("--from", min=0, metavar="SECONDS", help="Begin there.")
    ] = 0.0,
    end: Annotated[
        float | None, typer.Option("--to", min=0, metavar="SECONDS", help="End there.")
    ] = None,
    rate: Annotated[
        float,
        typer.Option(
            min=0.1, max=240, metavar="N", help="Frames a second of a folder of pictures."
        ),
    ] = 25.0,
    review: options.Review = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.001, metavar="SECONDS", help="Time limit. Default: as long as it takes."
        ),
    ] = None,
    address: options.Address = None,
    name: options.Name = "default",
    state_dir: options.StateDir = None,
) -> None:
    """Track things through a video: say what you want, get masks with ids that stay the same.

    A connection that is cut is made again, and the stream goes on where it was.
    """
    queries = queries_of(phrase or [], box or [])
    if (instruction is None) == (queries is None):
        fail("give either an INSTRUCTION or --phrase / --box", Exit.USAGE, "limelight track -h")
    if end is not None and end <= start:
        fail("--to must be after --from", Exit.USAGE)
    title = _title(clip)
    files = _files(
        title, overlay, cutout, background, background_out, json_lines, coco, youtube_vos
    )
    selection = FrameSelection(start, end, stride, max_side or 0)
    console = err()
    try:
        footage = footage_of(source_of(clip, rate=rate), selection, files.drawn)
    except ServiceError as fault:
        fail(fault.message, Exit.USAGE)
    except OSError as fault:
        fail(f"{fault.filename or clip}: {fault.strerror}", Exit.USAGE)
    where = resolve(address, state_dir, name)
    report = TrackReport(out(), quiet=files.json_lines is sys.stdout)
    writer = _opened(files, title)
    wanted: TrackOptions = {
        "queries": queries,
        "score_threshold": threshold,
        "max_objects": max_objects,
        "review": review,
        "stride": stride,
        "max_side": max_side,
        "time_range": TimeRange(start, end) if start or end is not None else None,
        "timeout": timeout,
    }
    cuts = follow(where, footage, writer, report, console, instruction, wanted)
    report.show(cuts)
    for path in writer.written:
        console.print(f"[dim]wrote[/dim] {path}", soft_wrap=True)


def _title(clip: str) -> str:
    """What files that belong to the clip are called after."""
    if clip == "-":
        return "stdin"
    return Path(clip).stem.replace(":", "-") or "clip"


def _files(
    title: str,
    overlay: Path | None,
    cutout: Path | None,
    background: str | None,
    background_out: Path | None,
    json_lines: Path | None,
    coco: Path | None,
    youtube_vos: Path | None,
) -> TrackFiles:
    """What is to be written. Ends the command on an unusable path or background."""
    if background is None and background_out is not None:
        fail("--background-out needs --background", Exit.USAGE)
    if background is not None:
        background_out = background_out or Path(f"{title}-background.mp4")
    for path, suffix in ((overlay, ".mp4"), (cutout, ".webm"), (background_out, ".mp4")):
        if path is not None and path.suffix.lower() != suffix:
            fail(f"{path}: this is written as {suffix}", Exit.USAGE)
    lines: Path | TextIO | None = json_lines
    if json_lines is not None and str(json_lines) == "-":
        lines = sys.stdout
    for written in (overlay, cutout, background_out, lines, coco, youtube_vos):
        if isinstance(written, Path) and not written.parent.is_dir():
            fail(f"{written}: there is no folder {written.parent}", Exit.USAGE)
    behind: Background = (255, 255, 255) if background is None else _background(background)
    return TrackFiles(overlay, cutout, background_out, behind, lines, coco, youtube_vos)


def _background(text: str) -> Background:
    try:
        if Path(text).is_file():
            return decode(Path(text).read_bytes())
        red, green, blue = ImageColor.getcolor(text, "RGB")  # type: ignore[misc]
    except ServiceError as fault:
        fail(f"--background {text!r}: {fault.message}", Exit.USAGE)
    except ValueError:
        fail(f"--background {text!r} is neither a file nor a color", Exit.USAGE)
    return red, green, blue


def _opened(files: TrackFiles, title: str) -> TrackFileWriter:
    try:
        return TrackFileWriter(files, title)
    except OSError as fault:
        fail(f"{fault.filename}: {fault.strerror}", Exit.USAGE)
