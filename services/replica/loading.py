"""The one way in which every loader gets a model: judged, read, and known to hold numbers.

Flow: folder or hub id -> `checkpoints.inspect` (headers) -> names, shapes and types against the
model that config.json describes -> `from_pretrained` -> no weight that is not finite. The
engines of both services, the trainers and the benchmarks load through `load_model`, so that a
checkpoint that would answer nonsense is refused, with its file and its tensors named, instead of
being completed with random weights. torch and transformers are imported on demand.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.errors import CheckpointError
from services.replica.checkpoints import (
    CONFIG,
    INDEX,
    WEIGHTS,
    Architecture,
    CheckpointFiles,
    inspect,
    is_hub_id,
    listed,
    read_config,
    shard_names,
)
from services.replica.checksums import verify
from services.replica.failures import is_out_of_memory
from services.replica.weight_files import TensorHeader

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
# Whole numbers that models have beside their weights: positions, counts.
_WHOLE = frozenset({"I64", "I32", "BOOL"})
# Of a buffer's names: Gemma 4 has bounds that may be infinite, and clips at none by default.
_BOUNDS = ("input_min", "input_max", "output_min", "output_max")


def load_model(
    model_class: Any,
    source: str,
    architecture: Architecture,
    *,
    revision: str | None = None,
    dtype: Any,
    **options: Any,
) -> Any:
    """A model of transformers, to evaluate, on the CPU, with every weight from its checkpoint.

    Args:
        model_class: of transformers.
        source: a folder, or a hub id.
        architecture: what it must be.
        revision: commit, tag or branch of a hub id.
        dtype: torch's, or "auto" for the checkpoint's.
        options: for `from_pretrained`.

    Raises:
        CheckpointError: a file is missing, damaged or of another kind; the weights are another
            model's, incomplete or not finite. `ChecksumError`: it is not what its SHA256SUMS says.
    """
    folder = located(source, architecture, revision)
    verify(folder, weights=False)
    files = inspect(folder, architecture)
    check_fit(model_class, files)
    verify(folder)
    # By its id, a model of the hub gets what else it has: how it generates, say.
    where = {} if folder == Path(source).expanduser() else {"revision": revision or "main"}
    try:
        model = model_class.from_pretrained(
            source if where else folder, dtype=dtype, use_safetensors=True, **where, **options
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"{folder} cannot be loaded: {_line(error)}") from error
    check_finite(model, files)
    return model


def located(source: str, architecture: Architecture, revision: str | None = None) -> Path:
    """The folder of a checkpoint; one of the hub is fetched first, its config before its weights.

    Raises:
        CheckpointError: there is no such folder, or the hub has no such model.
    """
    path = Path(source).expanduser()
    if path.exists() or not is_hub_id(source):
        if not path.exists():
            raise CheckpointError(
                f"{source} is neither a folder here nor a hub id (owner/name); "
                f"{architecture.expected}"
            )
        return path
    config = _fetched(source, CONFIG, architecture, revision)
    if config is None:
        raise CheckpointError(f"{source} of the hub has no {CONFIG}; {architecture.expected}")
    # Before gigabytes are fetched, whether they can be what is wanted.
    read_config(config.parent, architecture)
    if _fetched(source, WEIGHTS, architecture, revision, optional=True) is None:
        index = _fetched(source, INDEX, architecture, revision)
        for name in sorted(set(shard_names(index).values())) if index is not None else ():
            _fetched(source, name, architecture, revision)
    return config.parent


def load_tokenizer(source: str, revision: str | None = None) -> Any:
    """The tokenizer of a checkpoint; where it has none, transformers makes one of a few tokens.

    Raises:
        CheckpointError: it cannot be read.
    """
    from transformers import AutoTokenizer

    options = {} if revision is None else {"revision": revision}
    try:
        return AutoTokenizer.from_pretrained(source, **options)
    except Exception as error:
        # The library below raises plain ones on a broken file.
        raise CheckpointError(
            f"{source} has no tokenizer (tokenizer.json) that can be read: {_line(error)}"
        ) from error


def check_fit(model_class: Any, files: CheckpointFiles) -> None:
    """Compare a checkpoint's tensors with the model that its config describes; reads no weights.

    transformers' own loading does it, with tensors that have a shape and no numbers: renaming,
    conversion, tied weights and what a class ignores are its own.

    Raises:
        CheckpointError: tensors are missing, unexpected, of another shape or not floating point.
    """
    import torch
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import convert_and_load_state_dict_in_model
    from transformers.modeling_utils import LoadStateDictConfig

    _check_types(files)
    try:
        with torch.device("meta"):
            model = model_class(model_class.config_class.from_pretrained(files.folder))
    except Exception as error:
        # Anything at all: the model computes with whatever numbers the config has.
        raise CheckpointError(
            f"{files.folder / CONFIG} describes no {model_class.__name__} that can be built: "
            f"{_line(error)}"
        ) from error
    needed = len(model.state_dict())
    empty = {
        name: torch.empty(header.shape, device="meta") for name, header in files.tensors.items()
    }
    config = LoadStateDictConfig(
        device_map={"": "meta"}, weight_mapping=get_model_conversion_mapping(model)
    )
    try:
        with _no_progress():
            found, _ = convert_and_load_state_dict_in_model(model, empty, config)
    except Exception as error:
        raise CheckpointError(f"{files.folder} cannot be loaded: {_line(error)}") from error
    model.tie_weights(missing_keys=found.missing_keys, recompute_mapping=False)
    model._adjust_missing_and_unexpected_keys(found)
    if found.conversion_errors:
        names = listed(found.conversion_errors)
        raise CheckpointError(f"{files.folder}: {names} cannot be converted: another model's?")
    _check_names(files, found.missing_keys, found.unexpected_keys, needed)
    _check_shapes(files, {name: (has, wants) for name, has, wants in found.mismatched_keys}, needed)


def check_finite(model: Any, files: CheckpointFiles) -> None:
    """Look at every number that was loaded.

    Raises:
        CheckpointError: one is NaN, or infinite in the model's type.
    """
    broken = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.numel() and tensor.is_floating_point():
            # Both follow NaN, and neither makes a copy.
            least, most = (float(bound) for bound in tensor.detach().aminmax())
            unbounded = name.endswith(_BOUNDS) and least == least
            if not unbounded and not (float("-inf") < least <= most < float("inf")):
                broken[name] = tensor
    if not broken:
        return
    first = sorted(broken)[0]
    file = _header(files, first)
    dtype = str(broken[first].dtype).removeprefix("torch.")
    raise CheckpointError(
        f"{file.file if file else files.folder}: {len(broken)} tensors hold numbers that are not "
        f"finite in {dtype} ({listed(broken)}); the training that wrote them had failed, or "
        f"{dtype} is too narrow for them"
    )


@contextmanager
def _no_progress() -> Iterator[None]:
    """No bar of transformers for what takes a moment and reads nothing."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _check_types(files: CheckpointFiles) -> None:
    """Refuse weights in whole numbers or 8 bits, which would be taken for weights as they are."""
    packed = {
        name: header
        for name, header in files.tensors.items()
        if header.dtype not in _FLOATS
        and (header.dtype not in _WHOLE or name.endswith((".weight", ".bias")))
    }
    if packed:
        first = sorted(packed)[0]
        raise CheckpointError(
            f"{packed[first].file}: {len(packed)} tensors are of type {packed[first].dtype} "
            f"({listed(packed)}), as of quantized weights; expected floating-point numbers of 16 "
            "bits or more"
        )


def _check_names(
    files: CheckpointFiles, missing: set[str], unexpected: set[str], needed: int
) -> None:
    if not missing and not unexpected:
        return
    said = []
    if missing:
        said.append(f"{len(missing)} of the {needed} tensors are missing ({listed(missing)})")
    if unexpected:
        said.append(
            f"{len(unexpected)} of its {len(files.tensors)} are unexpected ({listed(unexpected)})"
        )
    if missing and unexpected:
        advice = f"the weights are not of the model that {CONFIG} describes"
    elif missing:
        advice = "it was saved or copied in part; copy it again"
    else:
        advice = f"{CONFIG} describes a smaller model than the weights are of"
    raise CheckpointError(f"{_file(files, unexpected)}: {'; '.join(said)}: {advice}")


def _check_shapes(
    files: CheckpointFiles, wrong: Mapping[str, tuple[Any, Any]], needed: int
) -> None:
    if not wrong:
        return
    first = sorted(wrong)[0]
    has, wants = (list(shape) for shape in wrong[first])
    raise CheckpointError(
        f"{_file(files, wrong)}: {len(wrong)} of the {needed} tensors are of another size than "
        f"{CONFIG} says ({listed(wrong)}): {first} is {has}, and should be {wants}"
    )


def _file(files: CheckpointFiles, names: Any) -> Path:
    """The file of the first of some tensors; of none, the one that stands for all weights."""
    for name in sorted(names):
        if (header := _header(files, name)) is not None:
            return header.file
    used = {header.file for header in files.tensors.values()}
    return used.pop() if len(used) == 1 else files.folder / INDEX


def _header(files: CheckpointFiles, name: str) -> TensorHeader | None:
    """The header of a tensor of the model, whose name may begin otherwise in the file."""
    if name in files.tensors:
        return files.tensors[name]
    same = (h for n, h in files.tensors.items() if n.endswith(f".{name}") or name.endswith(f".{n}"))
    return next(same, None)


def _fetched(
    source: str,
    name: str,
    architecture: Architecture,
    revision: str | None,
    optional: bool = False,
) -> Path | None:
    """A file of a hub model in the hub's cache; None if the model has no such file.

    Args:
        source: the hub id.
        name: of the file.
        architecture: for messages.
        revision: commit, tag or branch.
        optional: whether a file that cannot be asked for counts as one that isn't there.
    """
    from huggingface_hub import errors, hf_hub_download

    try:
        return Path(hf_hub_download(source, name, revision=revision))
    except errors.GatedRepoError:
        what = f"is gated: ask for access at https://huggingface.co/{source}, then hf auth login"
    except errors.RevisionNotFoundError:
        what = f"has no revision {revision!r}"
    except errors.RepositoryNotFoundError:
        what = "is not on the hub, or private (hf auth login)"
    except (errors.LocalEntryNotFoundError, ConnectionError):
        if optional:
            return None
        what = f"is not whole in the hub's cache here ({name}), and the hub cannot be reached"
    except errors.EntryNotFoundError:
        return None
    except (OSError, ValueError) as error:
        what = f"cannot be had from the hub ({_line(error)})"
    raise CheckpointError(f"{source} is not a folder here, and {what}; {architecture.expected}")


def _line(error: Exception) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return (text[:300] + "…" if len(text) > 300 else text) or type(error).__name__
