"""The transformers engine on tiny Gemma 4 checkpoints of random weights: the code path of the real
ones, and as random answers never end by themselves, the longest that batches can get."""

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
from PIL import Image
from transformers import AutoTokenizer, Gemma4ForConditionalGeneration, Gemma4Processor

from services.errors import CheckpointError
from services.planner.calls import parse_call
from services.planner.engines import Prompt, PromptImage
from services.planner.engines.transformers import TransformersPlannerEngine
from services.planner.metrics import RecordedPlannerMetrics
from services.planner.prompt import PLAN_TOOL, VERDICT_TOOL, plan_messages, review_messages
from services.planner.service import warm_up
from services.planner.settings import PlannerSettings
from training.planner.config import Shape, new_image_processor, new_model
from training.planner.tokenizer import train_tokenizer

TOKENS = 24


def picture(seed: int, height: int = 240, width: int = 320, key: str = "") -> PromptImage:
    """Low-frequency noise, so that resizing keeps pictures apart."""
    grid = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    rgb = np.asarray(Image.fromarray(grid).resize((width, height)))
    return PromptImage(rgb, key)


def plan_prompt(
    instruction: str, seen: PromptImage, attempts: Sequence[tuple[str, str]] = ()
) -> Prompt:
    return Prompt(plan_messages(instruction, attempts), (seen,), (PLAN_TOOL,))


def review_prompt(first: PromptImage, second: PromptImage) -> Prompt:
    return Prompt(review_messages("the dog", "dog", 1), (first, second), (VERDICT_TOOL,))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved checkpoint of random weights, with a tokenizer of its own and the chat template."""
    folder = tmp_path_factory.mktemp("gemma")
    _save(folder, seed=1)
    return folder


def _save(folder: Path, seed: int, **options: Any) -> None:
    prose = ["everything in the picture except the second dog from the left", "no call found"]
    tokenizer = train_tokenizer(prose, ["call:plan{include:[cat],rank:2}"], merges=200)
    shape = Shape(vision_width=32, vision_layers=2, text_width=64, text_layers=2)
    model = new_model(shape, tokenizer, seed)
    with torch.no_grad():
        # Stock weights are too small for the picture to change an answer.
        model.model.embed_vision.embedding_projection.weight.normal_(0.0, 1.0)
    model.save_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)
    new_image_processor().save_pretrained(folder)


def _engine(folder: Path, metrics: RecordedPlannerMetrics | None = None, **settings: Any) -> Any:
    values = {"model": str(folder), "device": "cpu", "threads": 1, "max_new_tokens": TOKENS}
    engine = TransformersPlannerEngine(
        PlannerSettings(**(values | settings)), metrics or RecordedPlannerMetrics()
    )
    engine.load()
    return engine


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Any:
    return _engine(checkpoint)


PROMPTS = [
    plan_prompt("the dog", picture(1)),
    plan_prompt("everything except the second penguin from the left", picture(2, 400, 200)),
    plan_prompt("the cat", picture(3, 64, 900), [("no call", "no function call found")]),
    review_prompt(picture(4), picture(5, 90, 80)),
]


def test_a_batch_answers_as_each_alone(engine: Any) -> None:
    alone = [engine.generate([prompt], lambda: True)[0] for prompt in PROMPTS]
    assert engine.generate(PROMPTS, lambda: True) == alone
    assert len(set(alone)) == len(PROMPTS)


def test_the_picture_and_the_words_count(engine: Any) -> None:
    answers = engine.generate(
        [
            plan_prompt("the dog", picture(1)),
            plan_prompt("the dog", picture(2)),
            plan_prompt("everything in the picture except for umbrellas", picture(1)),
            review_prompt(picture(1), picture(2)),
            review_prompt(picture(2), picture(1)),
        ],
        lambda: True,
    )
    assert len(set(answers)) == 5


class ImagesOnly(Gemma4Processor):  # type: ignore[misc]
    """The official processor, told that there is neither sound nor video."""

    def check_argument_for_proper_class(self, argument_name: str, argument: object) -> None:
        if argument is not None:
            super().check_argument_for_proper_class(argument_name, argument)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_it_answers_as_the_official_processor_and_model_do(
    engine: Any, checkpoint: Path, prompt: Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    generate = engine._model.generate

    def spy(**inputs: Any) -> Any:
        seen.update(inputs)
        return generate(**inputs)

    monkeypatch.setattr(engine._model, "generate", spy)
    (answer,) = engine.generate([prompt], lambda: True)

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    processor = ImagesOnly(
        feature_extractor=None,
        image_processor=new_image_processor(),
        tokenizer=tokenizer,
        video_processor=None,
        chat_template=tokenizer.chat_template,
    )
    text = processor.apply_chat_template(
        list(prompt.messages), tools=list(prompt.tools), add_generation_prompt=True
    )
    inputs = processor(
        text=[text],
        images=[[Image.fromarray(item.rgb) for item in prompt.pictures]],
        add_special_tokens=False,
        return_tensors="pt",
    )
    assert torch.equal(seen["input_ids"], inputs["input_ids"])
    assert torch.equal(seen["mm_token_type_ids"], inputs["mm_token_type_ids"])
    stock = Gemma4ForConditionalGeneration.from_pretrained(checkpoint).eval()
    written = stock.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
    ids = written[0, inputs["input_ids"].shape[1] :]
    assert answer == tokenizer.decode(ids, skip_special_tokens=False)


def test_sharded_weights_load(checkpoint: Path, engine: Any, tmp_path: Path) -> None:
    _save(tmp_path, seed=1, max_shard_size="100KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    sharded = _engine(tmp_path)
    assert sharded.generate(PROMPTS, lambda: True) == engine.generate(PROMPTS, lambda: True)


def test_a_revision_belongs_to_weights(checkpoint: Path, engine: Any, tmp_path: Path) -> None:
    _save(tmp_path, seed=2)
    other = _engine(tmp_path).describe()
    mine = engine.describe()
    assert (mine.role, mine.engine, mine.name) == ("planner", "transformers", checkpoint.name)
    assert mine.revision
    assert mine.revision != other.revision
    assert _engine(checkpoint).describe() == mine


@pytest.mark.slow
def test_a_hub_id_loads_from_the_hubs_cache(checkpoint: Path, tmp_path: Path) -> None:
    """The hub's library reads its variables at import, so it needs a process of its own."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    entry = tmp_path / "models--acme--tiny-gemma"
    shutil.copytree(checkpoint, entry / "snapshots" / commit)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(commit)
    code = (
        "from services.planner.engines import create\n"
        "from services.planner.metrics import RecordedPlannerMetrics\n"
        "from services.planner.settings import PlannerSettings\n"
        "settings = PlannerSettings(model='acme/tiny-gemma', device='cpu')\n"
        "engine = create(settings, RecordedPlannerMetrics())\n"
        "engine.load()\n"
        "print(engine.describe().name, engine.describe().revision)"
    )
    hub = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | hub,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["acme/tiny-gemma", commit]


def test_a_missing_checkpoint_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json: it is empty"):
        _engine(tmp_path)


def test_pictures_are_encoded_once(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = RecordedPlannerMetrics()
    engine = _engine(checkpoint, metrics)
    encoded: list[int] = []
    encode = engine._model.model.get_image_features

    def spy(pixels: Any, *args: Any, **options: Any) -> Any:
        encoded.append(len(pixels))
        return encode(pixels, *args, **options)

    monkeypatch.setattr(engine._model.model, "get_image_features", spy)
    named, other = picture(1, key="a"), picture(2, key="b")
    first = engine.generate(
        [plan_prompt("the dog", named), plan_prompt("the cat", named), plan_prompt("x", other)],
        lambda: True,
    )
    assert encoded == [2]
    again = engine.generate([plan_prompt("the dog", named)], lambda: True)
    assert encoded == [2]
    assert again == first[:1]
    assert metrics.counts["hit", "features"] == 1
    assert metrics.gauges["cache_bytes", "features"] > 0
    engine.generate([plan_prompt("the dog", picture(1))], lambda: True)
    assert encoded == [2, 1], "a picture without a name is not kept"


def test_it_stops_when_nobody_wants_the_answers(engine: Any) -> None:
    full = {id(prompt): engine.generate([prompt], lambda: True)[0] for prompt in PROMPTS}
    prompt = max(PROMPTS, key=lambda prompt: len(full[id(prompt)]))
    asked = 0

    def wanted() -> bool:
        nonlocal asked
        asked += 1
        return asked < 3

    (answer,) = engine.generate([prompt], wanted)
    assert asked == 3
    assert len(answer) < len(full[id(prompt)])


def _scripted(engine: Any, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Makes the model write `answers`, padded on the right as `generate` does."""
    rows = [engine._tokenizer(text, add_special_tokens=False)["input_ids"] for text in answers]
    width = max(map(len, rows))
    padded = torch.tensor(
        [row + [engine._tokenizer.pad_token_id] * (width - len(row)) for row in rows]
    )

    def generate(**inputs: Any) -> torch.Tensor:
        return torch.cat([inputs["input_ids"], padded], dim=1)

    monkeypatch.setattr(engine._model, "generate", generate)


def test_calls_come_out_whole(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        '<|tool_call>call:plan{include:[<|"|>red apple<|"|>],rank:2,'
        'select:<|"|>leftmost<|"|>}<tool_call|><turn|>',
        '<|tool_call>call:plan{include:[<|"|>cat<|"|>]}<tool_call|><|tool_response>',
    ]
    _scripted(engine, monkeypatch, *answers)
    before = engine._metrics.counts["tokens", "written"]
    assert engine.generate(PROMPTS[:2], lambda: True) == answers
    lengths = [
        len(engine._tokenizer(text, add_special_tokens=False)["input_ids"]) for text in answers
    ]
    assert engine._metrics.counts["tokens", "written"] - before == sum(lengths)
    assert len(set(lengths)) == 2, "one of them was padded"
    assert parse_call(answers[0]).arguments["include"] == ["red apple"]


def test_prompts_are_written_in_gemmas_syntax(engine: Any) -> None:
    prompt = plan_prompt(
        "The Dog", picture(1), [("<|tool_call>call:plam{}<tool_call|><turn|>", "?")]
    )
    text = engine._text(prompt, iter([3]))
    assert text.startswith("<bos><|turn>system\n")
    assert "<|tool>declaration:plan{" in text
    assert "<|turn>user\n<|image><|image|><|image|><|image|><image|>the dog<turn|>\n" in text
    assert "<|turn>model\n<|tool_call>call:plam{}<tool_call|><turn|>\n" in text
    assert text.endswith("<turn|>\n<|turn>model\n")
    ids = engine._tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids.count(engine._model.config.image_token_id) == 3
    assert ids[0] == engine._tokenizer.bos_token_id


def test_an_answer_that_asks_for_images_can_be_shown_again(engine: Any) -> None:
    prompt = plan_prompt("the dog", picture(1), [("<|image|><|video|>dog", "no call")])
    assert engine.generate([prompt], lambda: True)


def test_sampling_is_off_unless_told(checkpoint: Path) -> None:
    warm = _engine(checkpoint, temperature=2.0)
    torch.manual_seed(0)
    assert len({warm.generate([PROMPTS[0]], lambda: True)[0] for _ in range(3)}) > 1
    cold = _engine(checkpoint)
    assert len({cold.generate([PROMPTS[0]], lambda: True)[0] for _ in range(3)}) == 1


def test_a_model_whose_logits_are_not_numbers_fails_its_warm_up(checkpoint: Path) -> None:
    """Its likeliest token is padding, so its answers look like text."""
    settings = PlannerSettings(model=str(checkpoint), device="cpu", threads=1)
    engine = TransformersPlannerEngine(settings, RecordedPlannerMetrics())
    engine.load()
    warm_up(engine)
    with torch.no_grad():
        for parameter in engine._model.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(
        CheckpointError, match="failed its warm-up: the model's logits are not finite"
    ):
        warm_up(engine)
