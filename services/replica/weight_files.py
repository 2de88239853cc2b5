"""What a file of weights says of itself, read without its weights.

`services.replica.checkpoints` asks for the headers of a checkpoint's safetensors, and for words
about files that are something else. The format: 8 bytes of length, little-endian, that much JSON
(name -> dtype, shape, offsets), then the numbers (https://github.com/huggingface/safetensors).
Free of torch.
"""

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.errors import CheckpointError

# The format's own limit of a header.
_MAX_HEADER_BYTES = 100_000_000
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n.*?^size (\d+)$", re.S | re.M
)
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
# By how such a file begins. A pickle's first byte is its protocol's opcode.
_BEGINNINGS = (
    (b"GGUF", "a GGUF file of llama.cpp"),
    (b"\x80", "a pickle, as torch.save wrote it before 2020"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"%PDF", "a PDF document"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
)


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One tensor of a file: `dtype` as safetensors names it ("BF16"), and its sides."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


def pointed_size(path: Path) -> int | None:
    """The size in bytes of the file that a Git LFS pointer stands for; None if it isn't one."""
    with path.open("rb") as file:
        found = _POINTER.match(file.read(1024))
    return int(found[1]) if found else None


def kind_of(path: Path) -> str:
    """What a file is, in words that follow "is"; judged by its first bytes, not by its name."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4096)
    if not start:
        return "an empty file"
    if (stands_for := pointed_size(path)) is not None:
        return f"a Git LFS pointer to {stands_for} bytes (git lfs pull fetches them)"
    # Before what is told by a first byte, which may as well be one of a header's length.
    if _header_bytes(start) is not None:
        return "a safetensors file"
    if start.startswith(b"PK\x03\x04"):
        # torch.save names its first entry so.
        torch_file = b"/data.pkl" in start or b"/.format_version" in start
        return "a pickle of torch.save" if torch_file else "a ZIP archive"
    if start[257:262] == b"ustar":
        return "a tar archive"
    for beginning, kind in _BEGINNINGS:
        if start.startswith(beginning):
            return kind
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "a web page, as a download without permission leaves it"
    if text.startswith((b"{", b"[")):
        return "a JSON file"
    return f"a file of {size} bytes of no kind known here"


def read_headers(path: Path) -> Mapping[str, TensorHeader]:
    """The tensors of a safetensors file by name, its numbers unread.

    Raises:
        CheckpointError: it is another kind of file, cut off, or damaged.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(16)
        length = _header_bytes(start)
        if length is None:
            raise CheckpointError(f"{path} is {kind_of(path)}; expected safetensors")
        if 8 + length > size:
            raise CheckpointError(
                f"{path} is cut off within its header: it has {size} bytes, its header alone takes "
                f"{8 + length}; copy it again"
            )
        file.seek(8)
        content = file.read(length)
    try:
        header = json.loads(content)
        if not isinstance(header, dict):
            raise ValueError("it is not a JSON object")
        header.pop("__metadata__", None)
        tensors = {name: _tensor(path, entry) for name, entry in header.items()}
        end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise CheckpointError(f"{path} has a damaged header ({error!r}); copy it again") from error
    if end != size:
        what = "is cut off" if size < end else "is damaged"
        raise CheckpointError(
            f"{path} {what}: it has {size} bytes, its header promises {end}; copy it again"
        )
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors")
    return tensors


def _header_bytes(start: bytes) -> int | None:
    """The length of the header of a file that begins so; None if it isn't safetensors."""
    if start[8:9] != b"{":
        return None
    (length,) = struct.unpack("<Q", start[:8])
    return int(length) if 2 <= length <= _MAX_HEADER_BYTES else None


def _tensor(path: Path, entry: Mapping[str, Any]) -> TensorHeader:
    dtype, shape = entry["dtype"], entry["shape"]
    first, last = entry["data_offsets"]
    if not isinstance(shape, list) or not all(
        isinstance(side, int) and side >= 0 for side in shape
    ):
        raise ValueError(f"a shape of {shape}")
    if dtype not in _BITS:
        raise ValueError(f"a dtype {dtype}")
    if first < 0 or last - first != math.prod(shape) * _BITS[str(dtype)] // 8:
        raise ValueError(f"{last - first} bytes for {dtype} {shape}")
    return TensorHeader(path, str(dtype), tuple(shape))
