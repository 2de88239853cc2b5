"""Whether a data set's pictures can be read, judged from their files before a run begins.

Headers tell size, orientation and what kind of pixels there are; a file that may be cut off is
decoded, since only its pixels tell. The rules are those of `services.codecs.images`, which decodes
the pictures in the run.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from services.codecs.images import ImageHeader, decode, probe
from services.errors import ServiceError

# Reading waits for the disk more than for anything else.
_THREADS = 8
# The kinds of faults that leave it open how large a picture is.
SIZE_FAULTS = ("picture of another size", "picture annotated in stored orientation")

_END_OF_JPEG = b"\xff\xd9"
_END_OF_PNG = b"IEND\xaeB`\x82"


@dataclass(frozen=True, slots=True)
class PictureFault:
    """Why a picture cannot be used, and the same in few words."""

    message: str
    kind: str


def inside(folder: Path, name: str) -> Path | None:
    """The path of a picture below its folder; None for a name that leads out of it."""
    windows = PureWindowsPath(name)
    if PurePosixPath(name).is_absolute() or windows.root or ".." in windows.parts or "\0" in name:
        return None
    return folder / name


def judge(files: Sequence[Path]) -> Mapping[Path, ImageHeader | PictureFault]:
    """The header of each file, or why it cannot be read."""
    with ThreadPoolExecutor(_THREADS, "judge") as pool:
        return dict(zip(files, pool.map(_judged, files), strict=True))


def size_fault(header: ImageHeader, size: tuple[int, int]) -> PictureFault | None:
    """Whether a picture is of another size than `size`, width and height as annotated."""
    found = header.width, header.height
    if found == size:
        return None
    annotated = f"annotated as {size[0]} x {size[1]} pixels"
    if header.exif_orientation >= 5 and found == size[::-1]:
        return PictureFault(
            f"{annotated}, as it is stored, but Exif turns it (orientation "
            f"{header.exif_orientation}) and it shows as {found[0]} x {found[1]}; annotate what "
            "shows, or remove the Exif tag",
            SIZE_FAULTS[1],
        )
    return PictureFault(f"{annotated}, but it has {found[0]} x {found[1]}", SIZE_FAULTS[0])


def _judged(file: Path) -> ImageHeader | PictureFault:
    try:
        if not file.is_file():
            return PictureFault(f"there is no file {file}", "picture missing")
        data = file.read_bytes()
        header = probe(data)
        if not _ends(header, data):
            decode(data)
    except ServiceError as error:
        return PictureFault(f"{file}: {error.message}", "picture unreadable")
    except OSError as error:
        return PictureFault(f"{file}: {error.strerror}", "picture unreadable")
    return header


def _ends(header: ImageHeader, data: bytes) -> bool:
    """Whether the file is known to be whole without decoding it."""
    if header.format == "JPEG":
        return data.rstrip(b"\0").endswith(_END_OF_JPEG)
    if header.format == "PNG":
        return data.endswith(_END_OF_PNG)
    return header.format == "WEBP" and int.from_bytes(data[4:8], "little") + 8 <= len(data)
