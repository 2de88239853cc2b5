"""A name for a folder's weights, so that caches and answers know which model they belong to.

Engines call it once at load for a checkpoint in a folder; a hub id has its commit instead.
"""

import hashlib
from pathlib import Path

_BLOCK = 1 << 20
# Files up to this size are read whole (a quarter of a second); of larger ones 64 blocks are.
_WHOLE = 256 << 20
_SAMPLES = 64


def folder_revision(folder: Path) -> str:
    """16 hexadecimal digits of BLAKE2b over the names, sizes and contents of weights and configs.

    Of a weights file above 256 MiB, 64 evenly spaced blocks of 1 MiB stand for the whole, its
    header among them: retraining changes every block, so this tells checkpoints apart in a second.
    """
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        step = _BLOCK if size <= _WHOLE else (size - _BLOCK) // (_SAMPLES - 1)
        with path.open("rb") as file:
            for offset in range(0, size, step):
                file.seek(offset)
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()
