"""Checkpoints as downloads, wrappers, other tools and mistaken paths leave them.

Each is made of a shipped one and given to an engine, whose model is then warmed up: it is served
with every weight in its place, or refused by a message that names the file and what is wrong.
"""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from services.errors import CheckpointError
from services.planner.metrics import RecordedPlannerMetrics
from services.planner.service import open_planner
from services.planner.settings import SHIPPED as PLANNER
from services.planner.settings import PlannerSettings
from services.replica.metrics import RecordedMetrics
from services.segmenter.segmenting import open_segmenter
from services.segmenter.settings import SHIPPED as SEGMENTER
from services.segmenter.settings import SegmenterSettings
from tests.odd.case import Case

SERVED = "served"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 3440000000\n"
# Tensors of the segmenter and of the planner.
BIAS = "text_projection.bias"
NORM = "model.language_model.norm.weight"

Tensors = dict[str, torch.Tensor]
# Makes an odd checkpoint in a folder, and returns what is given as the model.
Make = Callable[[Path], str]


def cases() -> list[Case]:
    """The area's cases."""
    return [*_names(), *_numbers(), *_files(), *_sources(), *_configs(), *_sound()]


def copied(folder: Path, shipped: Path = SEGMENTER) -> Path:
    """A shipped checkpoint in a folder that may be changed: its checksums stay behind."""
    to = folder / "checkpoint"
    shutil.copytree(shipped, to, ignore=shutil.ignore_patterns("SHA256SUMS", "*.png", "*.md"))
    return to


def changed(change: Callable[[Tensors], object], folder: Path, shipped: Path = SEGMENTER) -> str:
    """A shipped checkpoint with `change` made to its tensors, in place or as what it returns."""
    made = copied(folder, shipped)
    tensors = load_file(made / "model.safetensors")
    returned = change(tensors)
    save_file(returned if isinstance(returned, dict) else tensors, made / "model.safetensors")
    return str(made)


def written(name: str, content: bytes | str, folder: Path, shipped: Path = SEGMENTER) -> str:
    """A shipped checkpoint with one file written anew."""
    made = copied(folder, shipped)
    (made / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(made)


def configured(change: Callable[[dict[str, Any]], object], folder: Path) -> str:
    """The shipped segmenter with `change` made to its config."""
    made = copied(folder)
    config = json.loads((made / "config.json").read_text())
    change(config)
    (made / "config.json").write_text(json.dumps(config))
    return str(made)


def sharded(folder: Path, but: str = "") -> str:
    """The shipped segmenter in three shards, without the one that is named."""
    made = copied(folder)
    tensors = load_file(made / "model.safetensors")
    (made / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {name: f"model-0000{1 + at % 3}-of-00003.safetensors" for at, name in enumerate(names)}
    for file in set(files.values()) - {but}:
        save_file({n: tensors[n] for n in names if files[n] == file}, made / file)
    (made / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": files})
    )
    return str(made)


def _serve(make: Make, words: tuple[str, ...], folder: Path, role: str, **settings: Any) -> str:
    """What opening the service says; `words` alone if they are all in its message."""
    model = make(folder)
    try:
        if role == "planner":
            open_planner(
                PlannerSettings(model=model, device="cpu", **settings), RecordedPlannerMetrics()
            )
        else:
            open_segmenter(
                SegmenterSettings(model=model, device="cpu", **settings), RecordedMetrics()
            )
    except CheckpointError as error:
        text = str(error)
        if not words or "\n" in text or not all(word in text for word in words):
            return f"refused: {text}"
        return refused(*words)
    return SERVED


def refused(*words: str) -> str:
    """What is seen of a checkpoint that is refused in these words, among others."""
    return f"refused: {' … '.join(words)}"


def _case(name: str, make: Make, *words: str, role: str = "segmenter", **settings: Any) -> Case:
    right = refused(*words) if words else SERVED
    return Case(
        f"a {role} {name}",
        right,
        lambda folder: _serve(make, words, folder, role, **settings),
    )


# --- names of tensors -----------------------------------------------------------------------------


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    """A change: every name begins with `prefix`."""
    return lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()}


def _halved(tensors: Tensors) -> Tensors:
    return {name: tensors[name] for name in sorted(tensors)[::2]}


def _set(name: str, tensor: torch.Tensor) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({name: tensor})


def dropped(name: str) -> Callable[[Tensors], object]:
    """A change: one tensor is missing."""
    return lambda tensors: tensors.pop(name)


def _names() -> list[Case]:
    wrapped = {
        "module.": "saved from a DataParallel wrapper",
        "_orig_mod.": "saved from a model of torch.compile",
        "module._orig_mod.": "saved from a DataParallel wrapper",
        "base_model.model.": "saved from a model with LoRA adapters",
    }
    found = [
        _case(
            f"whose names start with {prefix}",
            partial(changed, prefixed(prefix), shipped=shipped),
            "model.safetensors: every one of",
            f"{prefix!r}",
            known,
            "strip that prefix",
            role=role,
        )
        for prefix, known in wrapped.items()
        for role, shipped in (("segmenter", SEGMENTER), ("planner", PLANNER))
    ]
    return [
        *found,
        _case(
            "whose names start with a prefix of its own",
            partial(changed, prefixed("net.")),
            "model.safetensors: 432 of the 432 tensors are missing",
            "432 of its 432 are unexpected (net.",
            "and 429 more",
        ),
        _case(
            "without one of its tensors",
            partial(changed, dropped(BIAS)),
            f"model.safetensors: 1 of the 432 tensors are missing ({BIAS})",
            "copy it again",
        ),
        _case(
            "without one of its tensors",
            partial(changed, dropped(NORM), shipped=PLANNER),
            f"model.safetensors: 1 of the 127 tensors are missing ({NORM})",
            role="planner",
        ),
        _case(
            "with every second tensor",
            partial(changed, _halved),
            "model.safetensors: 216 of the 432 tensors are missing",
        ),
        _case(
            "with a tensor too many",
            partial(changed, _set("extra.weight", torch.zeros(3))),
            "model.safetensors: 1 of its 433 are unexpected (extra.weight)",
        ),
        _case(
            "with a tensor of another shape",
            partial(changed, _set(BIAS, torch.zeros(3))),
            "model.safetensors: 1 of the 432 tensors are of another size",
            f"{BIAS} is [3], and should be [64]",
        ),
        _case(
            "with a tensor of another shape",
            partial(changed, _set(NORM, torch.zeros(3, 3)), shipped=PLANNER),
            f"{NORM} is [3, 3]",
            role="planner",
        ),
    ]


# --- numbers --------------------------------------------------------------------------------------


def filled(name: str, value: float, one: bool = True) -> Callable[[Tensors], object]:
    """A change: one number of a tensor, or all of them, is `value`."""

    def fill(tensors: Tensors) -> None:
        if one:
            tensors[name].view(-1)[-1] = value
        else:
            tensors[name].fill_(value)

    return fill


def _numbers() -> list[Case]:
    name = "detr_decoder.layers.0.mlp.fc1.weight"
    word = "model.language_model.layers.0.mlp.up_proj.weight"
    broken = "1 tensors hold numbers that are not finite"
    return [
        _case(
            "with one NaN",
            partial(changed, filled(name, torch.nan)),
            f"model.safetensors: {broken} in float32 ({name})",
        ),
        _case(
            "with one infinite weight",
            partial(changed, filled(name, -torch.inf)),
            f"model.safetensors: {broken} in float32 ({name})",
        ),
        _case(
            "with one NaN",
            partial(changed, filled(word, torch.nan), shipped=PLANNER),
            f"model.safetensors: {broken} in float32 ({word})",
            role="planner",
        ),
        _case(
            "with a weight beyond float16, in which it is to run",
            partial(changed, filled(name, 1e6)),
            f"{broken} in float16 ({name})",
            dtype="float16",
        ),
        _case(
            "with finite weights that overflow as it answers",
            partial(changed, filled(name, 1e38, one=False)),
            "checkpoint failed its warm-up",
            "not finite",
        ),
        _case(
            "with finite weights that overflow as it answers",
            partial(changed, filled(word, 1e38, one=False), shipped=PLANNER),
            "checkpoint failed its warm-up",
            "not finite",
            role="planner",
        ),
        _case(
            "of 8-bit weights",
            partial(changed, lambda tensors: {n: t.to(torch.int8) for n, t in tensors.items()}),
            "model.safetensors: 432 tensors are of type I8",
            "quantized",
        ),
    ]


# --- files ----------------------------------------------------------------------------------------


def _cut(bytes_kept: int, folder: Path) -> str:
    made = copied(folder)
    file = made / "model.safetensors"
    file.write_bytes(file.read_bytes()[:bytes_kept])
    return str(made)


def _pickled(folder: Path) -> str:
    made = copied(folder)
    torch.save(load_file(made / "model.safetensors"), made / "pytorch_model.bin")
    (made / "model.safetensors").unlink()
    return str(made)


def _misnamed(folder: Path) -> str:
    made = copied(folder)
    (made / "model.safetensors").rename(made / "sam3.safetensors")
    return str(made)


def _other_index(folder: Path) -> str:
    made = Path(sharded(folder))
    index = made / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["extra.weight"] = "model-00001-of-00003.safetensors"
    index.write_text(json.dumps(content))
    return str(made)


def _broken_index(folder: Path) -> str:
    made = Path(sharded(folder))
    (made / "model.safetensors.index.json").write_text('{"weight_map": ')
    return str(made)


def _files() -> list[Case]:
    weights = "model.safetensors"
    return [
        _case(
            "cut off within its numbers",
            partial(_cut, 1_000_000),
            f"{weights} is cut off: it has 1000000 bytes",
            "copy it again",
        ),
        _case(
            "cut off within its header",
            partial(_cut, 500),
            f"{weights} is cut off within its header",
        ),
        _case("cut off at once", partial(_cut, 0), f"{weights} is an empty file"),
        _case(
            "that is a Git LFS pointer",
            partial(written, weights, POINTER),
            f"{weights} is a Git LFS pointer to 3440000000 bytes",
            "git lfs pull",
        ),
        _case(
            "that is a Git LFS pointer",
            partial(written, weights, POINTER, shipped=PLANNER),
            f"{weights} is a Git LFS pointer",
            role="planner",
        ),
        _case(
            "that is a web page",
            partial(written, weights, "<!DOCTYPE html><html>Log in</html>"),
            f"{weights} is a web page",
        ),
        _case("that is a pickle", _pickled, "pytorch_model.bin is a pickle of torch.save"),
        _case("under another name", _misnamed, "has neither model.safetensors nor", "sam3.safet"),
        _case(
            "of which a shard is missing",
            partial(sharded, but="model-00002-of-00003.safetensors"),
            "model-00002-of-00003.safetensors is missing, though model.safetensors.index.json",
            "lists it: 1 of 3 shards are",
        ),
        _case(
            "whose index is of other shards",
            _other_index,
            "is not the index of these shards: 1 tensors are not where it says (extra.weight)",
        ),
        _case("whose index is cut off", _broken_index, "index.json is damaged"),
    ]


# --- what is given as the model -------------------------------------------------------------------


def pickled_alone(folder: Path) -> str:
    """A file of torch.save, and nothing beside it."""
    torch.save({"model": torch.zeros(3)}, folder / "sam3.pt")
    return str(folder / "sam3.pt")


def _run_folder(folder: Path) -> str:
    (folder / "run").mkdir()
    copied(folder).rename(folder / "run" / "export")
    (folder / "run" / "metrics.jsonl").write_text("{}")
    return str(folder / "run")


def _adapter(folder: Path) -> str:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "x"}')
    return str(folder)


def _sources() -> list[Case]:
    expected = "expected a SAM 3: a folder with config.json and model.safetensors"
    return [
        _case("given as a .pt", pickled_alone, "sam3.pt is a pickle of torch.save", expected),
        _case(
            "given as its file of weights",
            lambda folder: str(copied(folder) / "model.safetensors"),
            "model.safetensors is a safetensors file",
            expected,
        ),
        _case("given as an empty folder", str, "has no config.json: it is empty", expected),
        _case(
            "given as a run's folder",
            _run_folder,
            "has no config.json: it holds export/, metrics.jsonl; did you mean",
            "run/export?",
        ),
        _case("given as adapters", _adapter, "holds LoRA adapters", "merge them"),
        _case(
            "given as a planner",
            lambda folder: str(copied(folder, PLANNER)),
            "config.json describes a Gemma 4 (model_type 'gemma4'); expected a SAM 3",
        ),
        _case(
            "given as a segmenter",
            lambda folder: str(copied(folder)),
            "config.json describes a SAM 3 (model_type 'sam3'); expected a Gemma 4",
            role="planner",
        ),
        _case(
            "given as a path at which nothing is",
            lambda folder: str(folder / "none"),
            "none is neither a folder here nor a hub id",
        ),
        *(
            _case(
                f"given as the hub id {wrong}",
                lambda folder, wrong=wrong: wrong,
                f"{wrong} is neither a folder here nor a hub id",
                "such as facebook/sam3",
            )
            for wrong in ("runs/mine/export", "a--b/c", "my sam3", "-x/y")
        ),
    ]


# --- configs --------------------------------------------------------------------------------------


def _configs() -> list[Case]:
    return [
        _case(
            "whose config is a Git LFS pointer",
            partial(written, "config.json", POINTER),
            "config.json is a Git LFS pointer",
        ),
        _case(
            "whose config is cut off",
            partial(written, "config.json", '{"model_type": "sam3", '),
            "config.json is not valid JSON",
        ),
        _case(
            "whose config names no architecture",
            partial(configured, lambda config: config.pop("model_type")),
            "config.json names no model_type",
        ),
        _case(
            "whose config is of another architecture",
            partial(configured, lambda config: config.update(model_type="sam2")),
            "config.json describes another architecture (model_type 'sam2'); expected a SAM 3",
        ),
        _case(
            "whose config is of another size",
            partial(
                configured, lambda c: c["vision_config"]["backbone_config"].update(hidden_size=96)
            ),
            "model.safetensors: 1",
            "tensors are of another size than config.json says",
            "and should be [",
        ),
        _case(
            "whose config is of a deeper model",
            partial(configured, lambda c: c["detr_encoder_config"].update(num_layers=4)),
            "tensors are missing (detr_encoder.layers.2.",
        ),
        _case(
            "whose config is of a shallower model",
            partial(configured, lambda c: c["detr_encoder_config"].update(num_layers=1)),
            "are unexpected (detr_encoder.layers.1.",
            "config.json describes a smaller model",
        ),
        _case(
            "whose config is of no model at all",
            partial(configured, lambda c: c["text_config"].update(num_attention_heads=7)),
            "config.json describes no Sam3Model that can be built",
        ),
        _case(
            "whose config asks for quantized weights",
            partial(configured, lambda c: c.update(quantization_config={"quant_method": "gptq"})),
            "config.json asks for quantized weights",
        ),
        *(
            _case(
                f"whose tokenizer is {what}",
                partial(written, "tokenizer.json", content, shipped=shipped),
                message,
                role=role,
            )
            for what, content, message in (
                ("a Git LFS pointer", POINTER, "tokenizer.json is a Git LFS pointer"),
                ("cut off", '{"version": "1.0", ', "has no tokenizer (tokenizer.json) that can"),
            )
            for role, shipped in (("segmenter", SEGMENTER), ("planner", PLANNER))
        ),
        _case(
            "without a tokenizer",
            lambda folder: _without("tokenizer.json", folder),
            "has no tokenizer",
            role="planner",
        ),
        _case(
            "without a chat template",
            lambda folder: _without("chat_template.jinja", folder),
            "has no chat template",
            role="planner",
        ),
        _case(
            "without an image processor",
            lambda folder: _without("preprocessor_config.json", folder),
            "has no image processor",
            role="planner",
        ),
    ]


def _without(name: str, folder: Path) -> str:
    made = copied(folder, PLANNER)
    (made / name).unlink()
    return str(made)


# --- what is right --------------------------------------------------------------------------------


def _untied(tensors: Tensors) -> None:
    tensors["lm_head.weight"] = tensors["model.language_model.embed_tokens.weight"].clone()


def _as(dtype: torch.dtype) -> Callable[[Tensors], object]:
    return lambda tensors: {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


def _sound() -> list[Case]:
    return [
        _case("as shipped", lambda folder: str(SEGMENTER)),
        _case("as shipped", lambda folder: str(PLANNER), role="planner"),
        _case("in shards", sharded),
        _case("in bfloat16", partial(changed, _as(torch.bfloat16))),
        _case("in float16", partial(changed, _as(torch.float16), shipped=PLANNER), role="planner"),
        _case(
            "whose names start as a video model's detector",
            partial(changed, prefixed("detector_model.")),
        ),
        _case(
            "with its tied weights written twice",
            partial(changed, _untied, shipped=PLANNER),
            role="planner",
        ),
    ]
