"""Headers of safetensors, and words for files that are something else."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from services.errors import CheckpointError
from services.replica.weight_files import kind_of, pointed_size, read_headers


def header(entries: object, numbers: bytes = b"") -> bytes:
    content = json.dumps(entries).encode()
    return struct.pack("<Q", len(content)) + content + numbers


def test_headers_tell_every_tensor(tmp_path: Path) -> None:
    file = tmp_path / "some.safetensors"
    tensors = {
        "a": torch.zeros(2, 3),
        "b": torch.zeros((), dtype=torch.bfloat16),
        "c": torch.zeros(4, 0, dtype=torch.int64),
    }
    save_file(tensors, file, metadata={"format": "pt"})
    found = read_headers(file)
    assert {name: (one.dtype, one.shape, one.file) for name, one in found.items()} == {
        "a": ("F32", (2, 3), file),
        "b": ("BF16", (), file),
        "c": ("I64", (4, 0), file),
    }


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is an empty file"),
        (b"\x00" * 40, "is a file of 40 bytes of no kind known here"),
        (header({"a": ONE}, b"\0" * 7), "is cut off: it has 76 bytes, its header promises 77"),
        (header({"a": ONE}, b"\0" * 9), "is damaged: it has 78 bytes, its header promises 77"),
        (header({"a": ONE}, b"\0" * 8)[:30], "is cut off within its header"),
        (header({}), "holds no tensors"),
        (header({"a": ONE | {"dtype": "F33"}}, b"\0" * 8), "damaged header"),
        (header({"a": ONE | {"shape": [3]}}, b"\0" * 8), "damaged header"),
        (header({"a": ONE | {"shape": "2"}}, b"\0" * 8), "damaged header"),
        (header({"a": {}}, b"\0" * 8), "damaged header"),
        (header({"a": 3}, b"\0" * 8), "damaged header"),
        (struct.pack("<Q", 20) + b"{" * 20, "damaged header"),
    ],
    ids=range(12),
)
def test_a_broken_file_is_refused_by_name(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "some.safetensors"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"some\.safetensors ") as caught:
        read_headers(file)
    assert message in str(caught.value)


def test_a_pointer_tells_what_it_stands_for(tmp_path: Path) -> None:
    file = tmp_path / "pointer"
    file.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 77\n")
    assert pointed_size(file) == 77
    file.write_text("version 2\nsize 77\n")
    assert pointed_size(file) is None


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"GGUF\x03\0\0\0", "a GGUF file of llama.cpp"),
        (b"\x80\x02}q\0.", "a pickle, as torch.save wrote it before 2020"),
        (b"PK\x03\x04" + b"\0" * 26 + b"sam3/data.pkl", "a pickle of torch.save"),
        (b"PK\x03\x04" + b"\0" * 26 + b"readme.txt", "a ZIP archive"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"\0" * 257 + b"ustar\0", "a tar archive"),
        (b"  \n<HTML><body>", "a web page, as a download without permission leaves it"),
        (b'{"error": "not found"}', "a JSON file"),
        # The first byte of its header's length is the one that a pickle begins with.
        (header({"a": ONE, "b": "x" * 58}), "a safetensors file"),
    ],
    ids=range(9),
)
def test_other_kinds_have_words(content: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert kind_of(tmp_path / "file") == kind


def test_what_torch_saves_is_known(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "new.pt")
    torch.save({"a": torch.zeros(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert kind_of(tmp_path / "new.pt") == "a pickle of torch.save"
    assert kind_of(tmp_path / "old.pt") == "a pickle, as torch.save wrote it before 2020"
