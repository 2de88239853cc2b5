"""The results file of `limelight batch`: nothing in it is overwritten or counted unseen.

A new run opens a file that is empty or not there, unless it is told to overwrite. `--resume` reads
what is there first: answers stay, errors and a last line that a killed run cut short are dropped
and asked again, and anything else is refused. Two runs cannot write to one file.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from services.cli.requests import id_key, is_id, listed, shown_id
from services.codecs import strict_json
from services.codecs.text_files import EncodingFault, decoded

# How every result line begins, and so every line that was cut short.
_BEGINNING = b'{"id":'
_ANSWER = {"width": int, "height": int, "instances": list, "request_id": str}


class ResultsRefused(ValueError):
    """A results file that must not be written to; the message is for a person."""


@dataclass(slots=True)
class EarlierResults:
    """What a results file held.

    Attributes:
        answered: the number of the line with the answer to each id, by `id_key`.
        dropped: numbers of the lines that are asked again.
        cut: whether one of them was cut short.
        ends: whether the last line has its line end.
    """

    answered: dict[Hashable, int] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    cut: bool = False
    ends: bool = True


def open_new(path: Path, *, overwrite: bool) -> TextIO:
    """Open an empty results file; devices and pipes are opened as they are.

    Raises:
        ResultsRefused: it holds something and `overwrite` is False, or another run writes to it.
        OSError: it cannot be opened.
    """
    if path.exists() and not path.is_file():
        return path.open("w", encoding="utf-8")
    sink = _locked(path, "a+")
    if os.fstat(sink.fileno()).st_size and not overwrite:
        sink.close()
        raise ResultsRefused(
            f"{path} is not empty: --resume keeps its answers and asks only for the rest, "
            "--overwrite replaces it"
        )
    sink.truncate(0)
    return sink


def open_again(
    path: Path, requested: Mapping[Hashable, int], source: Path
) -> tuple[TextIO, EarlierResults]:
    """Open a results file to go on with it; only complete answers are left in it.

    Args:
        path: of the file, which may be missing.
        requested: the ids of the requests.
        source: where they come from, for messages.

    Raises:
        ResultsRefused: it holds what is not a result of these requests, or another run writes to
            it; it is left as it was.
        OSError: it cannot be opened or written.
    """
    path = path.resolve()  # a link stays one
    if path.exists() and not path.is_file():
        raise ResultsRefused(f"{path} is not a file that can be read again, as --resume must")
    sink = _locked(path, "a+")
    try:
        earlier = _checked(path, requested, source)
        if earlier.dropped:
            fresh = _rewritten(path, earlier.dropped)
            sink.close()
            return fresh, earlier
        if not earlier.ends:
            sink.write("\n")
        return sink, earlier
    except BaseException:
        sink.close()
        raise


def _locked(path: Path, mode: Literal["a+", "w+"]) -> TextIO:
    sink = path.open(mode, encoding="utf-8", newline="\n")
    try:
        fcntl.flock(sink, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another run may have put a new file in its place before its lock was released.
        if os.fstat(sink.fileno()).st_ino != path.stat().st_ino:
            raise BlockingIOError
    except (BlockingIOError, FileNotFoundError):
        sink.close()
        raise ResultsRefused(f"another batch is writing to {path}") from None
    except OSError:
        return sink  # a file system without locks
    return sink


def _checked(path: Path, requested: Mapping[Hashable, int], source: Path) -> EarlierResults:
    """Judge every line.

    Raises:
        ResultsRefused: it holds what is not a result of these requests.
    """
    earlier = EarlierResults()
    faults = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            earlier.ends = line.endswith(b"\n")
            try:
                values = _result(line)
            except ValueError as exc:
                if earlier.ends or not _is_cut(line):
                    faults.append(f"line {number}: {exc}")
                    continue
                earlier.cut = True
                earlier.dropped.add(number)
                continue
            given = values["id"]
            if given is not None and id_key(given) not in requested:
                faults.append(f"line {number}: the id {shown_id(given)} is not in {source}")
            elif "error" in values:
                earlier.dropped.add(number)
            else:
                first = earlier.answered.setdefault(id_key(given), number)
                if first != number:
                    faults.append(
                        f"line {number}: the id {shown_id(given)} is answered on line {first}"
                    )
    if faults:
        what = f"{path} is not the result of these requests, and stays as it is"
        raise ResultsRefused(listed(what, faults))
    return earlier


def _result(line: bytes) -> dict[str, Any]:
    """The values of a result line; its id is None only in an error.

    Raises:
        ValueError: it is not one.
    """
    try:
        text = decoded(line)
    except EncodingFault:
        raise ValueError("not UTF-8") from None
    values = strict_json.loads(text.rstrip())
    if not isinstance(values, dict) or "id" not in values:
        raise ValueError("not a result line")
    given, error = values["id"], values.get("error")
    if error is not None:
        if not isinstance(error, dict) or not {"code", "message"} <= error.keys():
            raise ValueError("not a result line: error is not as a batch writes it")
        if given is None:
            return values
    elif wrong := [
        name for name, kind in _ANSWER.items() if not isinstance(values.get(name), kind)
    ]:
        raise ValueError(f"not a result line: {wrong[0]} is not as a batch writes it")
    if not is_id(given):
        raise ValueError("not a result line: its id is not a string or a number")
    return values


def _is_cut(line: bytes) -> bool:
    """Whether it is the beginning of a result line, or what a file system left in its place."""
    with contextlib.suppress(ValueError):
        json.loads(line)
        return False  # whole, whatever it is
    rest = line.rstrip(b"\0")
    return rest.startswith(_BEGINNING) or _BEGINNING.startswith(rest)


def _rewritten(path: Path, dropped: Collection[int]) -> TextIO:
    """Replace the file by one without some of its lines, and return that one, open and locked."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.resume")
    fresh = _locked(draft, "w+")
    try:
        shutil.copymode(path, draft)
        with path.open("rb") as old:
            for number, line in enumerate(old, start=1):
                if number not in dropped and line.strip():
                    fresh.buffer.write(line if line.endswith(b"\n") else line + b"\n")
        fresh.flush()
        os.fsync(fresh.fileno())
        draft.replace(path)
    except BaseException:
        fresh.close()
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    return fresh
