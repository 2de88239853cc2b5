"""Whether a checkpoint can be what it is given for, judged by its headers in a moment.

`limelight up` asks for a folder before it starts anything, and `services.replica.loading` before it
reads weights. A checkpoint is a folder with config.json and safetensors, in one file or in shards
with an index, as `save_pretrained` writes it. Free of torch.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.errors import CheckpointError
from services.replica.weight_files import TensorHeader, kind_of, pointed_size, read_headers

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

# Names that are given in a message before it says how many more there are.
_NAMED = 3
# Hub ids, as huggingface_hub checks them: one or two parts.
_HUB_ID = re.compile(r"(?!.*(--|\.\.))(?!.*\.git$)\w[\w.-]{0,95}(/\w[\w.-]{0,95})?", re.A)
_SMALL = (".json", ".jinja", ".model", ".txt")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_WRAPPERS = {
    "module.": "saved from a DataParallel wrapper",
    "_orig_mod.": "saved from a model of torch.compile",
    "base_model.model.": "saved from a model with LoRA adapters, not merged",
    "state_dict.": "saved from a training state",
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a loader takes: `name` as prose says it, the `model_type`s of its config, a hub id."""

    name: str
    model_types: tuple[str, ...]
    example: str

    @property
    def expected(self) -> str:
        """What a source must be, for a message."""
        return (
            f"expected {self.name}: a folder with {CONFIG} and {WEIGHTS} or its shards, as "
            f"save_pretrained writes it, or a hub id such as {self.example}"
        )


# A video checkpoint has the detector in it.
SAM3 = Architecture("a SAM 3", ("sam3", "sam3_video"), "facebook/sam3")
SAM3_VIDEO = Architecture("a SAM 3 that tracks", ("sam3_video",), "facebook/sam3")
GEMMA4 = Architecture("a Gemma 4", ("gemma4",), "google/gemma-4-E4B-it")


@dataclass(frozen=True, slots=True)
class CheckpointFiles:
    """A checkpoint whose files are whole: its config as written, and its tensors by name."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorHeader]


def is_hub_id(source: str) -> bool:
    """Whether `source` could be the id of a model of the hub."""
    return _HUB_ID.fullmatch(source) is not None


def inspect(path: Path, architecture: Architecture) -> CheckpointFiles:
    """Judge a checkpoint by its config and the headers of its weights.

    Args:
        path: what was given as its folder.
        architecture: what it must be.

    Raises:
        CheckpointError: it cannot be loaded, and why.
    """
    try:
        return _inspected(path, architecture)
    except OSError as error:
        where = error.filename or path
        raise CheckpointError(f"{where} cannot be read: {error.strerror or error}") from error


def _inspected(path: Path, architecture: Architecture) -> CheckpointFiles:
    if path.is_file():
        raise CheckpointError(f"{path} is {kind_of(path)}; {architecture.expected}")
    if not path.is_dir():
        raise CheckpointError(f"there is no checkpoint at {path}; {architecture.expected}")
    config = read_config(path, architecture)
    tensors = _tensors(path)
    _check_wrapper(path, tensors)
    # What is large enough for Git LFS beside weights: tokenizers.
    for file in sorted(path.iterdir()):
        if file.suffix in _SMALL and file.is_file() and pointed_size(file) is not None:
            raise CheckpointError(f"{file} is {kind_of(file)}")
    return CheckpointFiles(path, config, tensors)


def listed(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    found = sorted(names)
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more


def wrapper_of(names: Iterable[str]) -> str | None:
    """The prefix that a wrapper around the model gave to every one of the `names`, if one did."""
    found = list(names)
    prefix = ""
    while True:
        more = next((p for p in _WRAPPERS if all(n.startswith(prefix + p) for n in found)), None)
        if more is None or not found:
            return prefix or None
        prefix += more


def _check_wrapper(path: Path, tensors: Mapping[str, TensorHeader]) -> None:
    prefix = wrapper_of(tensors)
    if prefix is None:
        return
    file = next(iter(tensors.values())).file
    known = next(text for start, text in _WRAPPERS.items() if prefix.startswith(start))
    raise CheckpointError(
        f"{file}: every one of its {len(tensors)} names starts with {prefix!r} "
        f"({listed(tensors)}): {known}; strip that prefix, or save the model inside the wrapper"
    )


def read_config(folder: Path, architecture: Architecture) -> Mapping[str, Any]:
    """The config of a checkpoint, as written.

    Raises:
        CheckpointError: there is none, or it is not of the architecture.
    """
    path = folder / CONFIG
    # transformers would load what the adapter was made for, and not this folder.
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{folder} holds LoRA adapters (adapter_config.json), not a whole model; merge them "
            f"into the checkpoint that they were trained on; {architecture.expected}"
        )
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no {CONFIG}{_instead(folder)}; {architecture.expected}"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        kind = kind_of(path)
        kind = "not valid JSON" if kind == "a JSON file" else kind
        raise CheckpointError(f"{path} is {kind}; {architecture.expected}") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise CheckpointError(f"{path} names no model_type; {architecture.expected}")
    found = config["model_type"]
    if found not in architecture.model_types:
        other = next((a.name for a in (SAM3, GEMMA4) if found in a.model_types), None)
        types = " or ".join(map(repr, architecture.model_types))
        raise CheckpointError(
            f"{path} describes {other or 'another architecture'} (model_type {found!r}); expected "
            f"{architecture.name} (model_type {types})"
        )
    if config.get("quantization_config"):
        raise CheckpointError(
            f"{path} asks for quantized weights (quantization_config), which are not supported; "
            f"use the checkpoint that was quantized"
        )
    return config


def _instead(folder: Path) -> str:
    """What the folder without a config has, and which folder below it may be meant."""
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
    if not names:
        return ": it is empty"
    below = sorted(
        p.parent
        for pattern in (f"*/{CONFIG}", f"snapshots/*/{CONFIG}")
        for p in folder.glob(pattern)
    )
    meant = f"; did you mean {below[-1]}?" if below else ""
    return f": it holds {listed(names)}{meant}"


def _tensors(folder: Path) -> Mapping[str, TensorHeader]:
    if (folder / WEIGHTS).is_file():
        return read_headers(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return _indexed(folder)
    others = sorted(p.name for p in folder.glob("*.safetensors"))
    if others:
        raise CheckpointError(
            f"{folder} has neither {WEIGHTS} nor {INDEX}, which says what {listed(others)} holds"
        )
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
    if pickles:
        raise CheckpointError(
            f"{folder / pickles[0]} is {kind_of(folder / pickles[0])}; expected {WEIGHTS}: load it "
            "with transformers and save it again by save_pretrained"
        )
    raise CheckpointError(f"{folder} has {CONFIG} and no weights; expected {WEIGHTS} or its shards")


def shard_names(index: Path) -> Mapping[str, str]:
    """The file of each tensor, by an index of shards.

    Raises:
        CheckpointError: it isn't one.
    """
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        shards = content["weight_map"]
        # transformers reads both.
        if not isinstance(content["metadata"], dict):
            raise ValueError("metadata is not an object")
        if not shards or not all(Path(name).name == name for name in shards.values()):
            raise ValueError("weight_map names no files of this folder")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        kind = kind_of(index)
        what = f"is {kind}" if kind != "a JSON file" else f"is damaged ({error!r})"
        raise CheckpointError(f"{index} {what}; expected an index of shards") from error
    return dict(shards)


def _indexed(folder: Path) -> Mapping[str, TensorHeader]:
    index = folder / INDEX
    shards = shard_names(index)
    files = sorted(set(shards.values()))
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder / missing[0]} is missing, though {INDEX} lists it: {len(missing)} of "
            f"{len(files)} shards are; copy them as well"
        )
    tensors: dict[str, TensorHeader] = {}
    for name in files:
        tensors |= read_headers(folder / name)
    stray = {name for name, file in shards.items() if name in tensors} ^ set(shards)
    wrong = stray | {n for n, found in tensors.items() if shards.get(n) != found.file.name}
    if wrong:
        raise CheckpointError(
            f"{index} is not the index of these shards: {len(wrong)} tensors are not where it says "
            f"({listed(wrong)}); copy all files of the checkpoint again"
        )
    return tensors
