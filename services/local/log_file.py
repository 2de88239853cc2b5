"""A log of bounded size: when it is full it becomes `NAME.1`, and the one before `NAME.2`."""

from pathlib import Path

MAX_BYTES = 16 << 20
KEPT = 2  # full ones beside the one that is written


class LogFile:
    """Appends bytes to a file, and starts a new one when it is full.

    Args:
        path: of the file; those before have a number appended, the older the higher.
        max_bytes: of one file; a single piece may be larger.
        kept: full files that are kept.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> None:
        self._path, self._max_bytes, self._kept = path, max_bytes, kept
        self._handle = path.open("ab", buffering=0)
        self._lost = 0

    def write(self, piece: bytes) -> None:
        """Append a piece, whole, to this file or to a new one; nothing where the disk is full.

        Whoever writes here must not end for want of a log. What comes next tells how much is not
        there.
        """
        if self._lost:
            told = f"({self._lost} lines could not be written: there was no room on the disk)\n"
            piece = told.encode() + piece
        try:
            self._append(piece)
        except OSError:
            self._lost += 1
        else:
            self._lost = 0

    def _append(self, piece: bytes) -> None:
        held = self._handle.tell()
        if held and held + len(piece) > self._max_bytes:
            for number in range(self._kept, 0, -1):
                before = self._numbered(number - 1)
                if before.exists():
                    before.replace(self._numbered(number))
            full, self._handle = self._handle, self._path.open("wb", buffering=0)
            full.close()
        self._handle.write(piece)

    def close(self) -> None:
        """Nothing more is written."""
        self._handle.close()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


def clear(path: Path) -> None:
    """Empty a log and remove those before it."""
    path.write_bytes(b"")
    for older in path.parent.glob(f"{path.name}.[0-9]*"):
        older.unlink(missing_ok=True)
