"""Loading through the one function: what fits, what does not, and that headers are enough to tell.

The odd checkpoints themselves are in `tests/odd/checkpoints.py`; here is what they do not show.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Gemma4ForConditionalGeneration, Sam3Config, Sam3Model

from services.errors import CheckpointError
from services.replica import checksums
from services.replica.checkpoints import GEMMA4, SAM3, CheckpointFiles, inspect, is_hub_id
from services.replica.checksums import write
from services.replica.loading import check_finite, check_fit, load_model, located
from services.replica.weight_files import TensorHeader
from tests.odd.checkpoints import copied
from tests.training.planner.tiny import SWITCHES, real_model

digest = checksums._digest


def full_size(but: str = "") -> CheckpointFiles:
    """The headers of `facebook/sam3`, as transformers' defaults make it."""
    config = Sam3Config()
    with torch.device("meta"):
        model = Sam3Model(config)
    file = Path("model.safetensors")
    tensors = {
        name: TensorHeader(file, "F32", tuple(tensor.shape))
        for name, tensor in model.state_dict().items()
        if name != but
    }
    return CheckpointFiles(Path(), config.to_dict(), tensors)


def test_a_full_size_model_is_judged_by_its_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No number of its 840 million is made: neither memory nor time would be there for it."""
    config = Sam3Config()
    config.save_pretrained(tmp_path)
    monkeypatch.chdir(tmp_path)
    check_fit(Sam3Model, full_size())
    with pytest.raises(CheckpointError, match=r"1 of the 1468 tensors are missing \(text_proj"):
        check_fit(Sam3Model, full_size(but="text_projection.bias"))


@pytest.mark.parametrize("size", SWITCHES)
def test_every_size_of_gemma_loads_with_every_weight(size: str, tmp_path: Path) -> None:
    """Shared keys and values, tied embeddings, bounds that are infinite, experts."""
    made = real_model(size)
    made.save_pretrained(tmp_path, max_shard_size="100KB")
    loaded = load_model(Gemma4ForConditionalGeneration, str(tmp_path), GEMMA4, dtype=torch.float32)
    for name, tensor in made.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_projections_of_layers_that_share_keys_and_values_may_be_there(tmp_path: Path) -> None:
    """As the published E2B has them; transformers leaves them out."""
    made = real_model("E2B")
    state = dict(made.state_dict())
    state["model.language_model.layers.3.self_attn.k_proj.weight"] = torch.zeros(32, 32)
    made.save_pretrained(tmp_path, state_dict=state)
    assert any("layers.3.self_attn.k_proj" in name for name in inspect(tmp_path, GEMMA4).tensors)
    load_model(Gemma4ForConditionalGeneration, str(tmp_path), GEMMA4, dtype=torch.float32)


def test_what_headers_tell_is_told_before_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for its checksums nor by transformers."""
    folder = copied(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["detr_encoder_config"]["num_layers"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    write(folder)
    read: list[str] = []
    monkeypatch.setattr(checksums, "_digest", lambda path: read.append(path.name) or digest(path))
    monkeypatch.setattr(Sam3Model, "from_pretrained", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(CheckpointError, match="describes a smaller model"):
        load_model(Sam3Model, str(folder), SAM3, dtype=torch.float32)
    assert "config.json" in read
    assert "model.safetensors" not in read


@pytest.mark.parametrize(
    ("value", "name", "broken"),
    [
        (float("nan"), "weight", True),
        (float("inf"), "weight", True),
        (float("-inf"), "weight", True),
        (3e38, "weight", False),
        (float("inf"), "input_max", False),
        (float("nan"), "input_max", True),
    ],
)
def test_numbers_are_finite_but_for_bounds(value: float, name: str, broken: bool) -> None:
    module = torch.nn.Module()
    module.register_buffer(name, torch.tensor([0.0, value]))
    module.register_buffer("count", torch.tensor(3))
    module.register_parameter("empty", torch.nn.Parameter(torch.zeros(0)))
    files = CheckpointFiles(Path("x"), {}, {})
    if not broken:
        check_finite(module, files)
        return
    with pytest.raises(CheckpointError, match=rf"x: 1 tensors .* in float32 \({name}\)"):
        check_finite(module, files)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_of_every_type_are_looked_at(dtype: torch.dtype) -> None:
    module = torch.nn.Linear(3, 2).to(dtype)
    check_finite(module, CheckpointFiles(Path("x"), {}, {}))
    with torch.no_grad():
        module.weight[1, 1] = torch.nan
    with pytest.raises(CheckpointError, match=str(dtype).removeprefix("torch.")):
        check_finite(module, CheckpointFiles(Path("x"), {}, {}))


@pytest.mark.parametrize(
    ("source", "right"),
    [
        ("facebook/sam3", True),
        ("google/gemma-4-E4B-it", True),
        ("gpt2", True),
        ("a/b/c", False),
        ("/a/b", False),
        ("./a", False),
        ("~/a", False),
        ("a..b/c", False),
        ("a/b.git", False),
        ("a/b:main", False),
        ("größe/x", False),
        ("", False),
        ("a/" + "b" * 97, False),
    ],
)
def test_hub_ids(source: str, right: bool) -> None:
    assert is_hub_id(source) == right


def test_a_hub_id_that_is_not_cached_is_told_offline(tmp_path: Path) -> None:
    """The hub's library reads its variables at import, so it needs a process of its own."""
    program = (
        "from services.replica.checkpoints import SAM3\n"
        "from services.replica.loading import located\n"
        "located('acme/none-such', SAM3)\n"
    )
    offline = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=offline, capture_output=True, text=True
    )
    assert (
        "acme/none-such is not a folder here, and is not whole in the hub's cache here "
        "(config.json), and the hub cannot be reached; expected a SAM 3"
    ) in done.stderr.splitlines()[-1]


def test_a_checkpoint_of_another_architecture_is_told_before_its_weights_are_looked_at(
    tmp_path: Path,
) -> None:
    folder = copied(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json describes a SAM 3"):
        inspect(folder, GEMMA4)
    with pytest.raises(CheckpointError, match=r"config\.json and no weights"):
        inspect(folder, SAM3)


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = copied(tmp_path)
    assert located("~/checkpoint", SAM3) == folder
