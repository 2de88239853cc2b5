"""`limelight segment`: one picture, one answer."""

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from PIL import ImageColor

from limelight import Box, Client, ConceptQuery, Exemplar, LimelightError, Render, Segmentation
from services.cli import options
from services.cli.connection import resolve
from services.cli.console import Exit, err, fail, fail_call, out
from services.cli.tables import show
from services.codecs import strict_json

_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}

EXAMPLES = """
[bold]Examples[/bold]

  limelight segment photo.jpg "the second dog from the left"

  limelight segment photo.jpg "the main subjects" --spotlight spot.jpg --cutout cut.png

  limelight segment photo.jpg --phrase "red apple" --phrase cat --json

  limelight segment photo.jpg --box 10,20,110,140 --box 300,40,380,150:neg

  limelight segment photo.jpg "the girl" --background beach.jpg --background-out girl.jpg
"""


@dataclass(frozen=True, slots=True)
class RenderFile:
    """A requested rendering and the file to write it to."""

    path: Path
    render: Render


def segment(
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="A picture's file, or - for standard input.")
    ],
    instruction: options.Instruction = None,
    phrase: options.Phrases = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="x0,y0,x1,y1[:neg]",
            help="A box, in pixels, around an example of what is wanted; may be repeated. With one "
            "--phrase it refines the phrase. With :neg the thing in it is left out.",
        ),
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the picture with colored masks.")
    ] = None,
    spotlight: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the picture with all else dimmed.")
    ] = None,
    cutout: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what was found on transparency (.png, .webp)."),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="COLOR|IMAGE",
            help="Put what was found on a color (white, '#ff8800') or on another picture.",
        ),
    ] = None,
    background_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where --background is written. Default: IMAGE-background.png, in this folder.",
        ),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each mask as a PNG into a folder.")
    ] = None,
    as_json: options.AsJson = False,
    threshold: options.Threshold = None,
    max_instances: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Answer at most this many, best scores first."),
    ] = None,
    review: options.Review = None,
    accept_damaged: options.AcceptDamaged = False,
    timeout: options.Timeout = 120.0,
    address: options.Address = None,
    name: options.Name = "default",
    state_dir: options.StateDir = None,
) -> None:
    """Segment one picture: say what you want, get exact masks."""
    queries = queries_of(phrase or [], box or [])
    if (instruction is None) == (queries is None):
        fail("give either an INSTRUCTION or --phrase / --box", Exit.USAGE, "limelight segment -h")
    files = render_files_of(image, overlay, spotlight, cutout, background, background_out)
    content = _read(image)
    where = resolve(address, state_dir, name)
    console = err()
    with Client(where) as client, console.status("segmenting") if console.is_terminal else console:
        try:
            answer = client.segment(
                content,
                instruction,
                queries=queries,
                score_threshold=threshold,
                max_instances=max_instances,
                review=review,
                renders=[file.render for file in files],
                accept_damaged=accept_damaged,
                timeout=timeout,
            )
        except LimelightError as error:
            fail_call(error, where)
        except (TypeError, ValueError) as exc:  # an argument that no request can hold
            fail(str(exc), Exit.USAGE)
    written = _write(answer, files, masks)
    if as_json:
        _echo_json(answer)
    else:
        show(answer, out())
    for path in written:
        console.print(f"[dim]wrote[/dim] {path}", soft_wrap=True)


def queries_of(phrases: list[str], boxes: list[str]) -> list[ConceptQuery] | None:
    """The explicit queries of the command line, or None without any."""
    exemplars = tuple(parse_box(text) for text in boxes)
    if exemplars and len(phrases) > 1:
        fail("--box goes with one --phrase, or with none", Exit.USAGE)
    if exemplars and not phrases and not any(exemplar.positive for exemplar in exemplars):
        fail("--box …:neg goes with a --phrase, or with a --box of what is wanted", Exit.USAGE)
    if exemplars:
        return [ConceptQuery(phrases[0] if phrases else "", exemplars)]
    return [ConceptQuery(phrase) for phrase in phrases] or None


def parse_box(text: str) -> Exemplar:
    """Parse `x0,y0,x1,y1`, with `:neg` for what is not wanted; end the command on anything else."""
    sides, colon, sign = text.partition(":")
    try:
        x0, y0, x1, y1 = (float(side) for side in sides.split(","))
        if colon and sign not in ("neg", "pos"):
            raise ValueError(sign)
    except ValueError:
        fail(f"--box {text!r} is not x0,y0,x1,y1 or x0,y0,x1,y1:neg", Exit.USAGE)
    return Exemplar(Box(x0, y0, x1, y1), positive=sign != "neg")


def render_files_of(
    image: str,
    overlay: Path | None,
    spotlight: Path | None,
    cutout: Path | None,
    background: str | None,
    background_out: Path | None,
) -> list[RenderFile]:
    """The renderings to request. Ends the command on an unusable suffix or background."""
    files = [
        RenderFile(path, Render(kind, _format(path, transparent=kind == "cutout")))  # type: ignore[arg-type]
        for kind, path in (("overlay", overlay), ("spotlight", spotlight), ("cutout", cutout))
        if path is not None
    ]
    if background is not None:
        stem = "stdin" if image == "-" else Path(image).stem
        path = background_out or Path(f"{stem}-background.png")
        behind = _background(background)
        files.append(RenderFile(path, Render("background", _format(path), behind)))  # type: ignore[arg-type]
    elif background_out is not None:
        fail("--background-out needs --background", Exit.USAGE)
    _refuse_overwriting(image, [file.path for file in files])
    return files


def _refuse_overwriting(image: str, paths: list[Path]) -> None:
    """End the command if a picture would be written over another one, or over the one it is of."""
    taken = set() if image == "-" else {Path(image).resolve()}
    for path in paths:
        if (real := path.resolve()) in taken:
            fail(f"{path} would be written over: it is the picture, or named twice", Exit.USAGE)
        taken.add(real)


def _format(path: Path, transparent: bool = False) -> str:
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        fail(f"{path}: write pictures as .png, .jpg or .webp", Exit.USAGE)
    if transparent and kind == "jpeg":
        fail(f"{path}: JPEG has no transparency; write .png or .webp", Exit.USAGE)
    if not path.parent.is_dir():
        fail(f"{path}: there is no folder {path.parent}", Exit.USAGE)
    return kind


def _background(text: str) -> str | bytes:
    with contextlib.suppress(ValueError, OSError):  # not even a path
        if Path(text).is_file():
            return _read(text)
    try:
        return "#{:02x}{:02x}{:02x}".format(*ImageColor.getcolor(text, "RGB"))  # type: ignore[misc]
    except ValueError:
        fail(f"--background {text!r} is neither a file nor a color", Exit.USAGE)


def _read(image: str) -> bytes:
    if image == "-":
        return sys.stdin.buffer.read()
    if not image:
        fail("the picture's path is empty", Exit.USAGE)
    try:
        return Path(image).read_bytes()
    except OSError as exc:
        fail(f"{image}: {exc.strerror}", Exit.USAGE)


def _echo_json(answer: Segmentation) -> None:
    """Print the answer as UTF-8, whatever the terminal's encoding: JSON has no other."""
    try:
        text = strict_json.dumps(answer.to_dict(), ascii_only=False)
    except ValueError as exc:
        fail(f"the answer is broken: {exc}")
    typer.echo(text.encode())


def _write(answer: Segmentation, files: list[RenderFile], masks: Path | None) -> list[Path]:
    written = []
    try:
        for file, rendering in zip(files, answer.renderings, strict=True):
            written.append(rendering.save(file.path))
        if masks is not None:
            written += answer.save_masks(masks)
    except OSError as exc:
        fail(f"{exc.filename}: {exc.strerror}")
    return written
