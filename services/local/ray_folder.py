"""The folder for the sockets and logs of a stack's Ray, removed with the stack.

A socket's path may have about 100 characters, of which Ray needs 65, so the folder has a short path
under the temporary directory. Ray makes its folder readable to every user of the machine; the one
around it is readable to its owner alone.
"""

import shutil
import tempfile
from pathlib import Path

_PREFIX = "limelight-"
_SHORT = "/tmp"
_MOST_CHARACTERS = 20


def make() -> Path:
    """Create a folder; Ray gets its `inner` one."""
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_parent()))


def inner(folder: str | Path) -> Path:
    """The folder inside that Ray itself gets."""
    return Path(folder) / "ray"


def remove(folder: str | Path) -> None:
    """Remove a folder that `make` created; leave any other path, as from an edited state, alone."""
    path = Path(folder)
    if path.parent == _parent() and path.name.startswith(_PREFIX):
        shutil.rmtree(path, ignore_errors=True)


def _parent() -> Path:
    usual = tempfile.gettempdir()
    return Path(usual if len(usual) <= _MOST_CHARACTERS else _SHORT)
