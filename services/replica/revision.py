"""A name for a checkpoint's weights, so that caches and answers know which model they belong to.

Engines call one of these once at load: `folder_revision` for a checkpoint in a folder,
`hub_revision` for one of the hub, which has its commit.
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


def hub_revision(hub_id: str, revision: str) -> str:
    """The commit of a checkpoint that was loaded from the hub, or `revision` if it is not cached.

    The hub's cache keeps files by commit; transformers no longer says which one it read.
    """
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    return Path(path).parent.name if isinstance(path, str) else revision
