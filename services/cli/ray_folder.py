"""Where a stack's Ray keeps its sockets and logs: made with the stack, gone with the stack.

Sockets' paths may have about 100 characters, of which Ray needs 65, so the folder is a short one
under the temporary directory. Ray opens its own folder to everybody on the machine; the one around
it stays the owner's.
"""

import shutil
import tempfile
from pathlib import Path

_PREFIX = "limelight-"
_SHORT = "/tmp"
_MOST_CHARACTERS = 20


def make() -> Path:
    """A new folder; Ray is to have `inner` of it."""
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_parent()))


def inner(folder: str | Path) -> Path:
    """What Ray itself gets."""
    return Path(folder) / "ray"


def remove(folder: str | Path) -> None:
    """Remove one that `make` made; anything else a state may name is left alone."""
    path = Path(folder)
    if path.parent == _parent() and path.name.startswith(_PREFIX):
        shutil.rmtree(path, ignore_errors=True)


def _parent() -> Path:
    usual = tempfile.gettempdir()
    return Path(usual if len(usual) <= _MOST_CHARACTERS else _SHORT)
