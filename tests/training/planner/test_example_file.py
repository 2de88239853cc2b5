"""Own examples: lines become examples, and what is wrong with one is said by line and field."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from limelight.values import ConceptQuery, Plan, SelectBy, Selection
from services.planner.calls import parse_call, plan_from_call
from tests.training.planner.tiny import preprocessor
from training.planner.example_file import ExampleError, ExampleFile, read_examples

GOOD: list[dict[str, Any]] = [
    {"image": "a.png", "instruction": "the ripe ones", "plan": {"include": ["red tomato"]}},
    {
        "image": "a.png",
        "instruction": "the second tomato from the left, check it",
        "plan": {"include": ["tomato"], "select": "leftmost", "rank": 2, "review": True},
    },
    {"image": "b.png", "instruction": "hello", "plan": {"include": [], "reason": "No thing."}},
]


def written(folder: Path, *lines: Any) -> Path:
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((40, 60, 3), 99, np.uint8)).save(folder / name)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    file = folder / "examples.jsonl"
    file.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return file


def test_lines_about_a_picture_come_together(tmp_path: Path) -> None:
    examples = ExampleFile.load(written(tmp_path, *GOOD[:2], "", GOOD[2]), preprocessor())
    assert [[one.line for one in about] for about in examples.images] == [[1, 2], [4]]
    plans = [one.plan for about in examples.images for one in about]
    assert plans[0] == Plan((ConceptQuery("red tomato"),))
    assert plans[1].select == Selection(SelectBy.LEFTMOST, rank=2)
    assert plans[1].review
    assert not plans[2].include


def test_lessons_ask_what_is_written_and_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    examples = ExampleFile.load(written(tmp_path, *GOOD), preprocessor())
    asked: dict[str, Plan] = {}
    for seed in range(12):
        example = examples.example((seed,), 5)
        assert example.turns == examples.example((seed,), 5).turns
        assert len(example.images) == 1
        for question, answer in example.turns:
            text = preprocessor().tokenizer.decode(question).split("<turn|>")[0]
            asked[text] = plan_from_call(parse_call(preprocessor().tokenizer.decode(answer)))
    assert asked == {
        line["instruction"]: example.plan
        for line, example in zip(
            GOOD, (one for about in examples.images for one in about), strict=True
        )
    }
    assert all(len(examples.example((seed,), 1).turns) == 1 for seed in range(6))


def test_pictures_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    file = written(tmp_path / "pictures", *GOOD).rename(tmp_path / "examples.jsonl")
    assert ExampleFile.load(file, preprocessor(), tmp_path / "pictures").images
    with pytest.raises(ExampleError, match="there is no file"):
        ExampleFile.load(file, preprocessor())


@pytest.mark.parametrize(
    ("line", "field", "message"),
    [
        ("{", "", "not valid JSON"),
        ("[1]", "", "not a JSON object"),
        ({**GOOD[0], "planned": 1}, "planned", "not one of image, instruction, plan"),
        ({**GOOD[0], "image": "c.png"}, "image", "there is no file"),
        ({**GOOD[0], "image": 3}, "image", "not a string"),
        ({**GOOD[0], "instruction": " "}, "instruction", "not a string"),
        ({**GOOD[0], "instruction": "x" * 1001}, "instruction", "1001 characters"),
        ({"image": "a.png", "instruction": "x"}, "plan", "not a JSON object"),
        ({**GOOD[0], "plan": {}}, "plan", "include is missing"),
        ({**GOOD[0], "plan": {"include": [7]}}, "plan", "must be text"),
        ({**GOOD[0], "plan": {"include": None}}, "plan", "must be a list"),
        ({**GOOD[0], "plan": {"include": []}}, "plan", "say why in reason"),
        ({**GOOD[0], "plan": {"include": ["x"], "rank": 2}}, "plan", "rank needs select"),
        ({**GOOD[0], "plan": {"include": ["x"], "color": "red"}}, "plan", "no argument color"),
    ],
)
def test_a_fault_is_named_by_line_and_field(
    tmp_path: Path, line: Any, field: str, message: str
) -> None:
    with pytest.raises(ExampleError, match=message) as caught:
        ExampleFile.load(written(tmp_path, GOOD[0], "", line), preprocessor())
    assert (caught.value.line, caught.value.field) == (3, field)
    assert "examples.jsonl, line 3" in str(caught.value)


def test_an_empty_file_and_a_picture_that_is_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match="holds no examples"):
        ExampleFile.load(written(tmp_path, ""), preprocessor())
    examples = ExampleFile.load(written(tmp_path, *GOOD[2:]), preprocessor())
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(ExampleError) as caught:
        examples.example((1,), 2)
    assert (caught.value.line, caught.value.field) == (1, "image")


def test_all_faults_are_told_at_once_or_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    lines: list[Any] = [
        GOOD[0],
        "{",
        {**GOOD[0], "image": "../a.png"},
        {**GOOD[0], "image": "cut.jpg"},
        {**GOOD[0], "plan": {}},
        '{"image": "a.png", "image": "b.png", "instruction": "x", "plan": {"include": ["x"]}}',
        GOOD[2],
    ]
    file = written(tmp_path, *lines)
    with pytest.raises(ExampleError) as caught:
        read_examples(file)
    told = str(caught.value).splitlines()
    assert told[0] == f"{file} has 5 faults:"
    for line, (number, message) in zip(
        told[1:],
        [
            (2, ": not valid JSON"),
            (3, ", image: '../a.png' leads out of"),
            (4, f", image: {tmp_path / 'cut.jpg'}: the image"),
            (5, ", plan: include is missing"),
            (6, ': the key "image" is given twice'),
        ],
        strict=True,
    ):
        assert line.startswith(f"  line {number}{message}")
    assert [len(about) for about in read_examples(file, skip=True)] == [1, 1]
    assert (
        f"{file}: 2 examples about 2 pictures; dropped: 3 line of another form, "
        "1 plan that is not valid, 1 picture unreadable" in capsys.readouterr().out
    )


def test_a_mark_and_separators_within_a_line_are_read(tmp_path: Path) -> None:
    """Python's own `splitlines` ends a line at each of these separators."""
    asked = "the ripe\u2028ones\u0085please\x0bnow"
    text = json.dumps({**GOOD[0], "instruction": asked}, ensure_ascii=False)
    file = written(tmp_path, text)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    ((example,),) = read_examples(file)
    assert example.instruction == asked


def test_bytes_that_are_no_utf_8_are_told_by_line(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD[0], GOOD[1])
    file.write_bytes(file.read_bytes() + '{"image": "größe.png"}'.encode("latin-1"))
    with pytest.raises(ExampleError, match="line 3: byte 14: 0xF6 is not UTF-8"):
        read_examples(file)
