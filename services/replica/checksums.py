"""Whether a checkpoint's files are those that were published: its `SHA256SUMS`, checked on load.

Engines call `verify` on a checkpoint folder before they read its weights. A folder without the file
is taken as it is; one with it must match in every file that a model is loaded from. The file has
the format of GNU's sha256sum, so `sha256sum -c SHA256SUMS` checks it, too, and
`python -m services.replica.checksums FOLDER --write` makes it.
"""

import argparse
import hashlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from services.errors import CheckpointError
from services.replica.weight_files import pointed_size

NAME = "SHA256SUMS"

_WEIGHTS = frozenset({".safetensors", ".bin"})
# What transformers reads of a checkpoint: weights, configs, tokenizers, chat templates.
_LOADED_SUFFIXES = _WEIGHTS | {".json", ".jinja", ".model"}
_LOADED_NAMES = frozenset({"merges.txt", "vocab.txt"})
# Text files are marked by a second space, binary ones by an asterisk; the digest is the same.
_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.*)")


class ChecksumError(CheckpointError):
    """A checkpoint is not what its `SHA256SUMS` says; the message names the file at fault."""


def verify(folder: Path, *, weights: bool = True) -> None:
    """Check a checkpoint against its `SHA256SUMS`; one without passes.

    Args:
        folder: of the checkpoint.
        weights: whether to read the files of weights, too, which takes most of the time.

    Raises:
        ChecksumError: a file differs, is missing, or would be loaded and is not listed.
        OSError: a file cannot be read.
    """
    if not (folder / NAME).is_file():
        return
    listed = _read(folder / NAME)
    unlisted = sorted(set(_loaded(folder)) - set(listed))
    if unlisted:
        raise ChecksumError(
            f"{folder / unlisted[0]} is not listed in {NAME}: if it belongs there, run "
            f"python -m services.replica.checksums {folder} --write"
        )
    for name, expected in listed.items():
        path = folder / name
        if not path.is_file():
            raise ChecksumError(f"{path} is missing, though {NAME} lists it")
        if not weights and path.suffix in _WEIGHTS:
            continue
        found = _digest(path)
        if found != expected:
            if pointed_size(path) is not None:
                raise ChecksumError(f"{path} is a Git LFS pointer, not the file: run git lfs pull")
            raise ChecksumError(
                f"{path} is not what {NAME} says: its SHA-256 is {found}, not {expected}. It was "
                "damaged or changed; copy it anew"
            )


def write(folder: Path) -> Path:
    """Write a checkpoint's `SHA256SUMS` from its files as they are, and return its path.

    Raises:
        FileNotFoundError: nothing in the folder could be loaded.
    """
    names = _loaded(folder)
    if not names:
        raise FileNotFoundError(f"{folder} holds no checkpoint")
    lines = "".join(f"{_digest(folder / name)}  {name}\n" for name in names)
    path = folder / NAME
    # Whole or not at all: half a list would refuse the checkpoint.
    fresh = path.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_text(lines, encoding="utf-8")
    return fresh.replace(path)


def _loaded(folder: Path) -> list[str]:
    """Names of the files that a model may be loaded from, in order."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if (path.suffix in _LOADED_SUFFIXES or path.name in _LOADED_NAMES) and path.is_file()
    )


def _read(path: Path) -> Mapping[str, str]:
    """The digest of each listed name, which is of a file below the folder."""
    listed: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        found = _LINE.fullmatch(line)
        if found is None or Path(found[2]).is_absolute() or ".." in Path(found[2]).parts:
            raise ChecksumError(f"{path}, line {number}, is not a line that sha256sum writes")
        listed[found[2]] = found[1]
    return listed


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Check the folder named on the command line, or write its `SHA256SUMS`."""
    parser = argparse.ArgumentParser(description=f"Check a checkpoint against its {NAME}.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true", help="write the file instead")
    arguments = parser.parse_args()
    try:
        if arguments.write:
            print(f"wrote {write(arguments.folder)}")
        elif not (arguments.folder / NAME).is_file():
            sys.exit(f"error: {arguments.folder} has no {NAME}; --write makes it")
        else:
            verify(arguments.folder)
            print(f"{arguments.folder} is what its {NAME} says")
    except (ChecksumError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
