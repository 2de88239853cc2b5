import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Sam3Model

from services.segmenter.engines import Pair, create
from services.segmenter.operators import install_roi_align
from services.segmenter.preprocessing import normalized, to_model_input
from services.segmenter.settings import SHIPPED, SegmenterSettings
from tests.training.datasets.builders import write_coco
from tests.training.kit.terminated import terminated_as_by_make
from tests.training.segmenter.parts import tiny_model
from training.datasets.coco import CocoScenes
from training.datasets.coco_reader import CocoError
from training.kit.metrics import read
from training.kit.trainer import Trainer
from training.segmenter.data import SegmenterBatch
from training.segmenter.detection import detect
from training.segmenter.losses import LossWeights, detection_losses, total
from training.segmenter.models import open_checkpoint
from training.segmenter.train import command_parser, freeze, main, opened, recompute_activations
from training.world.scenes import random_scene
from training.world.splits import SHOWN
from training.world.vocabulary import Vocabulary

# The shipped model has no idea of them.
RENAMED = {"dog": "zorple", "red apple": "quonk", "cat": "flimmer", "balloon": "vurt"}

install_roi_align()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    concepts = [Vocabulary.load().by_name[name] for name in RENAMED]
    scenes = [
        random_scene(np.random.default_rng(seed), concepts=concepts, size=(200, 160))
        for seed in SHOWN[:5]
    ]
    return write_coco(tmp_path_factory.mktemp("dataset"), scenes, RENAMED)


def command(out: Path, pictures: tuple[Path, Path], *more: str) -> list[str]:
    return [
        *("--out", str(out), "--start", str(SHIPPED), "--validation-scenes", "1"),
        *("--coco", str(pictures[0]), "--images", str(pictures[1]), *more),
    ]


def loss(model: Sam3Model, batch: SegmenterBatch) -> float:
    assert batch.pairs is not None
    with torch.no_grad():
        detections = detect(model, model.vision_encoder(batch.pixels), batch.pairs)
        return float(total(detection_losses(detections, batch.pairs), LossWeights(), 1.0))


def faulty(folder: Path, pictures: tuple[Path, Path]) -> tuple[Path, Path]:
    """A copy of the data set with a missing picture, a far corner and a crowd in a string."""
    images = Path(shutil.copytree(pictures[1], folder / "images"))
    content = json.loads(pictures[0].read_text())
    (images / content["images"][4]["file_name"]).unlink()
    content["annotations"][0]["segmentation"] = [[10, 10, 50, 10, 50, 1e12]]
    content["annotations"][1]["iscrowd"] = "0"
    (folder / "instances.json").write_text(json.dumps(content))
    return folder / "instances.json", images


def test_a_data_set_is_judged_when_the_command_starts(
    pictures: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    own = faulty(tmp_path, pictures)
    with pytest.raises(SystemExit) as caught:
        main(command(tmp_path / "run", own))
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert f"{own[0]} has 3 faults:" in told
    assert "images[4].file_name (image 144, 0004.png): there is no file" in told
    assert "annotations[0].segmentation[0][5] (annotation 0): 1000000000000 is far" in told
    assert "annotations[1].iscrowd (annotation 1): '0' is neither 0 nor 1" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_what_is_faulty_is_left_out_and_counted_before_the_first_step(
    pictures: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    own = faulty(tmp_path, pictures)
    numbers = ("--steps", "1", "--accumulate", "1", "--batch", "1", "--skip-faults")
    main(command(tmp_path / "run", own, *numbers))
    lines = capsys.readouterr().out.splitlines()
    (summary,) = (line for line in lines if line.startswith(f"{own[0]}: 4 pictures, "))
    assert (
        "; dropped: 1 picture missing, 1 outline out of bounds, 1 annotation of another form, and "
        in summary
    )
    assert lines.index(summary) < next(i for i, line in enumerate(lines) if "training" in line)
    assert (tmp_path / "run" / "export" / "model.safetensors").exists()


@pytest.mark.slow
def test_steps_done_before_a_picture_breaks_are_kept(
    pictures: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    images = Path(shutil.copytree(pictures[1], tmp_path / "images"))
    numbers = ("--steps", "9", "--accumulate", "1", "--batch", "1")
    words = command(tmp_path / "run", (pictures[0], images), *numbers)
    trainer = Trainer(opened(command_parser().parse_args(words)), tmp_path / "run")

    def damaged() -> bool:
        if trainer.step == 2:
            for file in images.iterdir():
                file.write_bytes(b"no picture")
        return False

    with pytest.raises(CocoError, match=rf"{images}/000\d\.png: the image"):
        trainer.run(damaged)
    assert "segmenter: saved at step 2; the same command" in capsys.readouterr().out
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 2


@pytest.mark.slow
def test_fine_tuning_teaches_the_shipped_model_new_names(
    pictures: tuple[Path, Path], tmp_path: Path
):
    numbers = "--steps 16 --accumulate 1 --learning-rate 1e-3 --warm-up 0"
    task = opened(command_parser().parse_args(command(tmp_path, pictures, *numbers.split())))
    trainer = Trainer(task, tmp_path)
    batch = task.builder.phrases([1, 2, 3])
    before = loss(task.model.eval(), batch)
    task.train()
    while trainer.progress < 1:
        trainer.train_step()
    assert loss(task.model.eval(), batch) < 0.6 * before


@pytest.mark.slow
def test_what_the_command_exports_loads_in_transformers_and_in_the_service(
    pictures: tuple[Path, Path], tmp_path: Path
):
    weights = ("--loss-weights", "dice=16", "class=1")
    main(command(tmp_path, pictures, "--steps", "2", "--accumulate", "1", *weights))
    for name in ("checkpoint.pt", "curves.png", "figures.md"):
        assert (tmp_path / name).exists(), name
    run = read(tmp_path)
    assert run.recipe["start"] == str(SHIPPED)
    assert run.recipe["learning_rate"] == 8e-5
    own = ("weight of dice", "weight of class", "weight of mask")
    assert [run.recipe[name] for name in own] == [16.0, 1.0, 3.0]
    assert run.validations[-1].step == 2

    scene = CocoScenes.load(*pictures).at(0)
    pixels = to_model_input(scene.image, 240)
    engine = create(SegmenterSettings(model=str(tmp_path / "export"), device="cpu"))
    engine.load()
    (text,) = engine.encode_texts(["zorple"])
    (image,) = engine.encode_images([pixels])
    (found,) = engine.detect(
        [Pair(image, text, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))]
    )
    plain = Sam3Model.from_pretrained(tmp_path / "export").eval()
    _, tokenizer = open_checkpoint(str(tmp_path / "export"))
    asked = tokenizer(["zorple"], return_tensors="pt")
    with torch.no_grad():
        masks = plain(
            pixel_values=normalized(pixels)[None],
            input_ids=asked.input_ids,
            attention_mask=asked.attention_mask,
        ).pred_masks
    torch.testing.assert_close(found.masks, masks[0], atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_dense_heads_can_be_had_for_the_datasets_categories(
    pictures: tuple[Path, Path], tmp_path: Path
):
    options = ("--steps", "1", "--accumulate", "1", "--dense-weight", "0.5", "--batch", "2")
    main(command(tmp_path, pictures, *options))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["weights"]["heads.classes.weight"].shape[0] == len(Vocabulary.load().concepts) + 1


@pytest.mark.slow
def test_frozen_encoders_stay_as_they_were(pictures: tuple[Path, Path], tmp_path: Path):
    options = ("--steps", "2", "--accumulate", "1", "--freeze", "vision", "text")
    main(command(tmp_path, pictures, *options, "--learning-rate", "0.01"))
    before = Sam3Model.from_pretrained(SHIPPED).state_dict()
    after = Sam3Model.from_pretrained(tmp_path / "export").state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"detr_encoder", "detr_decoder", "mask_decoder", "text_projection"} <= changed
    assert not {"vision_encoder", "text_encoder"} & changed
    assert read(tmp_path).recipe["frozen"] == "vision text"


def test_recomputed_activations_give_the_same_gradients():
    pixels = torch.rand(1, 3, 240, 240)
    gradients = []
    for recomputed in (False, True):
        model = tiny_model().train()
        if recomputed:
            recompute_activations(model)
        saved = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal saved
            saved += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            hidden = model.vision_encoder.backbone(pixels).last_hidden_state
        hidden.square().mean().backward()
        parameter = model.vision_encoder.backbone.layers[0].mlp.fc1.weight
        gradients.append((parameter.grad, saved))
    (plain, much), (again, little) = gradients
    torch.testing.assert_close(again, plain)
    assert little < 0.5 * much


def test_freezing_names_the_parts_that_exist():
    model = tiny_model()
    freeze(model, ["vision"])
    frozen = {name.split(".")[0] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"vision_encoder"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--coco", "x.json"], "--coco needs --start"),
        (["--coco", "none.json", "--images", ".", "--start", str(SHIPPED)], "none.json"),
        (["--dense-weight", "0"], "dense_share"),
        (["--steps", "many"], "--steps"),
        (["--loss-weights", "cube=2"], "'cube=2' is not NAME=FACTOR"),
        (["--loss-weights", "dice"], "'dice' is not NAME=FACTOR"),
        (["--loss-weights", "dice=-1"], "'dice=-1' is not NAME=FACTOR"),
        (["--loss-weights", "dice=nan"], "'dice=nan' is not NAME=FACTOR"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    with pytest.raises(SystemExit) as caught:
        main(["--out", str(tmp_path), *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_states_both_defaults(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "(4500 / 2000)" in shown
    assert "(0.001 / 8e-05)" in shown
    assert " mask=3 dice=4 " in shown


@pytest.mark.slow
def test_an_interrupted_run_saves_ends_cleanly_and_is_resumed(
    pictures: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    module = "training.segmenter.train"
    arguments = command(tmp_path, pictures, "--accumulate", "1", "--steps")
    started, told = terminated_as_by_make(module, [*arguments, "100000"], "training")
    assert "from the start" in started
    assert "stopping after this step" in told
    step = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"]
    assert f"stopped at step {step}; " in told
    assert not (tmp_path / "export").exists(), "it did not wait for a validation"
    main([*arguments, str(step + 1)])
    resumed = capsys.readouterr().out
    assert f"resumed at step {step}" in resumed
    assert f"steps was 100000, is {step + 1}" in resumed
    assert "learning_rate" not in resumed
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == step + 1
