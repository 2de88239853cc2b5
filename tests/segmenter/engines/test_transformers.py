"""Parity: whatever is batched, cached or expanded, the answer is that of a plain `Sam3Model` call.

On random weights, saved in several safetensors shards and loaded through the setting that loads
real checkpoints; and on the shipped checkpoint.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Sam3Model

from limelight.paths import FieldPath
from limelight.values import Box, Exemplar
from services.errors import CheckpointError
from services.segmenter.engines import Embedding, Pair, RawDetections, SegmenterEngine, create
from services.segmenter.preprocessing import normalized, to_model_input
from services.segmenter.queries import exemplar_arrays
from services.segmenter.settings import SHIPPED, SegmenterSettings

WIDTH, HEIGHT = 90, 70
NONE: tuple[Exemplar, ...] = ()
ONE = (Exemplar(Box(10, 10, 40, 50)),)
THREE = (Exemplar(Box(0, 0, 30, 30)), Exemplar(Box(50, 5, 80, 60), False), *ONE)

# (image, phrase, exemplars): phrases of different lengths, with and without exemplars, mixed.
QUESTIONS = [
    (0, "dog", NONE),
    (1, "red apple umbrella cat soccer ball dog", NONE),
    (0, "visual", ONE),
    (0, "red apple", NONE),
    (1, "cat", THREE),
    (2, "dog", ONE),
    (2, "dog", NONE),
]


@pytest.fixture(scope="module", params=["random", "shipped"])
def checkpoint(request: pytest.FixtureRequest) -> Path:
    if request.param == "random":
        folder: Path = request.getfixturevalue("random_checkpoint")
        assert len(list(folder.glob("*.safetensors"))) > 1
        return folder
    if not SHIPPED.is_dir():
        pytest.skip(f"the shipped checkpoint is missing: {SHIPPED}")
    return SHIPPED


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> SegmenterEngine:
    engine = create(SegmenterSettings(model=str(checkpoint), device="cpu"))
    engine.load()
    return engine


@pytest.fixture(scope="module")
def images(engine: SegmenterEngine) -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    return [
        to_model_input(
            rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), engine.describe().image_size
        )
        for _ in range(3)
    ]


@pytest.fixture(scope="module")
def expected(checkpoint: Path, engine: SegmenterEngine, images: list[torch.Tensor]) -> list[Any]:
    """Each question alone, by a model and a tokenizer of the test's own."""
    model = Sam3Model.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    answers = []
    for image, phrase, exemplars in QUESTIONS:
        text = tokenizer(phrase, padding="max_length", max_length=32, return_tensors="pt")
        boxes, labels = exemplar_arrays(exemplars, WIDTH, HEIGHT, FieldPath())
        geometry = {"input_boxes": torch.from_numpy(boxes)[None]} if exemplars else {}
        if exemplars:
            geometry["input_boxes_labels"] = torch.from_numpy(labels)[None]
        with torch.inference_mode():
            answers.append(model(pixel_values=normalized(images[image])[None], **text, **geometry))
    return answers


def pairs(images: Sequence[Embedding], texts: dict[str, Embedding]) -> list[Pair]:
    return [
        Pair(images[image], texts[phrase], *exemplar_arrays(exemplars, WIDTH, HEIGHT, FieldPath()))
        for image, phrase, exemplars in QUESTIONS
    ]


@pytest.fixture(scope="module")
def tolerance(checkpoint: Path) -> float:
    """Another order of sums shows more in random weights; a mix-up is ten times this."""
    return 2e-5 if checkpoint == SHIPPED else 1e-4


def assert_equal(got: Sequence[RawDetections], expected: Sequence[Any], tolerance: float) -> None:
    for raw, plain in zip(got, expected, strict=True):
        close = {"atol": tolerance, "rtol": tolerance}
        torch.testing.assert_close(raw.logits, plain.pred_logits[0], **close)
        torch.testing.assert_close(raw.presence, plain.presence_logits[0, 0], **close)
        torch.testing.assert_close(raw.boxes, plain.pred_boxes[0], **close)
        scale = plain.pred_masks.abs().max().item()
        # The convolutions behind the masks add up in another order for another batch size.
        torch.testing.assert_close(raw.masks, plain.pred_masks[0], atol=5e-5 * scale, rtol=0)
        assert ((raw.masks > 0) == (plain.pred_masks[0] > 0)).float().mean() > 0.9999


def test_batched(
    engine: SegmenterEngine, images: list[torch.Tensor], expected: list[Any], tolerance: float
) -> None:
    phrases = sorted({phrase for _, phrase, _ in QUESTIONS})
    texts = dict(zip(phrases, engine.encode_texts(phrases), strict=True))
    assert_equal(engine.detect(pairs(engine.encode_images(images), texts)), expected, tolerance)


def test_one_by_one(
    engine: SegmenterEngine, images: list[torch.Tensor], expected: list[Any], tolerance: float
) -> None:
    encoded = [engine.encode_images([image])[0] for image in images]
    texts = {phrase: engine.encode_texts([phrase])[0] for _, phrase, _ in QUESTIONS}
    got = [engine.detect([pair])[0] for pair in pairs(encoded, texts)]
    assert_equal(got, expected, tolerance)


def test_queries_of_one_image_share_it_uncopied(
    engine: SegmenterEngine, images: list[torch.Tensor], expected: list[Any], tolerance: float
) -> None:
    phrases = sorted({phrase for _, phrase, _ in QUESTIONS})
    texts = dict(zip(phrases, engine.encode_texts(phrases), strict=True))
    chosen = [index for index, question in enumerate(QUESTIONS) if question[0] == 0]
    asked = pairs(engine.encode_images(images), texts)
    got = engine.detect([asked[i] for i in chosen])
    assert_equal(got, [expected[i] for i in chosen], tolerance)


@pytest.mark.parametrize("checkpoint", ["random"], indirect=True)
def test_the_questions_can_tell_a_mix_up(expected: list[Any]) -> None:
    """If all answers were alike, the tests above could not fail."""
    for index, one in enumerate(expected):
        for other in expected[:index]:
            assert (one.pred_logits - other.pred_logits).abs().max() > 1e-3
            scale = one.pred_masks.abs().max()
            assert (one.pred_masks - other.pred_masks).abs().max() > 1e-2 * scale


def test_an_embedding_holds_its_own_memory_and_no_more(
    engine: SegmenterEngine, images: list[torch.Tensor]
) -> None:
    embedding = engine.encode_images(images)[1]
    held = sum(tensor.untyped_storage().nbytes() for tensor in embedding.data)
    assert held == embedding.nbytes


def test_phrases_are_counted_with_their_ends(engine: SegmenterEngine) -> None:
    assert engine.describe().max_tokens == 32
    assert engine.describe().count_tokens("") == 2
    assert engine.describe().count_tokens("dog " * 40) > 32


def test_it_says_which_model_it_is(engine: SegmenterEngine, checkpoint: Path) -> None:
    assert engine.describe().model.name == checkpoint.name
    assert engine.describe().model.engine == "transformers"
    assert len(engine.describe().model.revision) == 16


@pytest.mark.slow
def test_a_video_checkpoint_loads_as_its_detector(random_checkpoint: Path, tmp_path: Path) -> None:
    """`facebook/sam3` is saved as `sam3_video`, detector and tracker in one."""
    from transformers import Sam3Config, Sam3TrackerVideoConfig, Sam3VideoConfig, Sam3VideoModel

    detector = Sam3Model.from_pretrained(random_checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(random_checkpoint)
    config = Sam3VideoConfig(
        detector_config=Sam3Config.from_pretrained(random_checkpoint).to_dict(),
        tracker_config=Sam3TrackerVideoConfig(
            vision_config=detector.config.vision_config.to_dict(),
            memory_attention_num_layers=1,
        ).to_dict(),
    )
    video = Sam3VideoModel(config)
    video.detector_model.load_state_dict(detector.state_dict())
    video.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)

    answers = []
    for folder in (random_checkpoint, tmp_path):
        engine = create(SegmenterSettings(model=str(folder), device="cpu"))
        engine.load()
        (text,) = engine.encode_texts(["dog"])
        ramp = (torch.arange(3 * 240 * 240) % 256).to(torch.uint8).view(3, 240, 240)
        (image,) = engine.encode_images([ramp])
        answers += engine.detect(
            [Pair(image, text, *exemplar_arrays((), WIDTH, HEIGHT, FieldPath()))]
        )
    torch.testing.assert_close(answers[1].masks, answers[0].masks)
    torch.testing.assert_close(answers[1].logits, answers[0].logits)


@pytest.mark.slow
def test_a_hub_id_loads_from_the_hubs_cache(random_checkpoint: Path, tmp_path: Path) -> None:
    """The hub's library reads its variables at import, so it needs a process of its own."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    entry = tmp_path / "models--acme--tiny-sam"
    shutil.copytree(random_checkpoint, entry / "snapshots" / commit)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(commit)
    program = (
        "from services.segmenter.engines import create\n"
        "from services.segmenter.settings import SegmenterSettings\n"
        "engine = create(SegmenterSettings(model='acme/tiny-sam', device='cpu'))\n"
        "engine.load()\n"
        "traits = engine.describe()\n"
        "print(traits.model.name, traits.model.revision, traits.count_tokens('dog') > 2)"
    )
    offline = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    out = subprocess.run(
        [sys.executable, "-c", program], env=offline, capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == ["acme/tiny-sam", commit, "True"]


def test_weights_without_a_tokenizer_get_the_shipped_one_and_say_so(
    random_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As `Sam3Model(Sam3Config()).save_pretrained(folder)` leaves them."""
    for path in random_checkpoint.iterdir():
        if not path.name.startswith("tokenizer"):
            shutil.copy(path, tmp_path)
    engine = create(SegmenterSettings(model=str(tmp_path), device="cpu"))
    engine.load()
    assert "has no tokenizer" in caplog.text
    dog, cat = engine.encode_texts(["dog", "cat"])
    assert not torch.allclose(dog.data[0], cat.data[0])


def test_a_missing_checkpoint_is_an_error_that_names_it(tmp_path: Path) -> None:
    engine = create(SegmenterSettings(model=str(tmp_path / "nothing"), device="cpu"))
    with pytest.raises(CheckpointError, match="nothing is neither a folder here nor a hub id"):
        engine.load()
