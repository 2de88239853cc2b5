"""`limelight segment` against a real server."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from limelight.paths import FieldPath
from limelight.v1 import limelight_pb2
from services.cli.main import app
from services.errors import InvalidMedia, Reason
from tests.client.stand_in import StandIn, mask


def test_shows_the_plan_and_a_table(runner: CliRunner, address: str, picture: Path) -> None:
    result = runner.invoke(app, ["segment", str(picture), "the dogs", "--address", address])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "plan  the dogs  without cat  only the 2nd leftmost 2"
    assert "because" in lines[1]
    assert any("the dogs" in line and "0.900" in line and "0 0 30 20" in line for line in lines)
    assert "Found 2." in lines
    assert "\x1b" not in result.output


def test_json_is_alone_on_standard_output(runner: CliRunner, address: str, picture: Path) -> None:
    result = runner.invoke(
        app,
        ["segment", str(picture), "the dogs", "--address", address, "--json", "--overlay", "o.png"],
    )
    values = json.loads(result.stdout)
    assert [instance["id"] for instance in values["instances"]] == [1, 2]
    assert "wrote o.png" in result.stderr


def test_phrases_and_boxes_make_queries(
    runner: CliRunner, address: str, picture: Path, service: StandIn
) -> None:
    call = ["segment", str(picture), "--address", address]
    assert runner.invoke(app, [*call, "--phrase", "a", "--phrase", "b"]).exit_code == 0
    boxes = ["--box", "1,2,3.5,4", "--box", "5,6,7,8:neg"]
    assert runner.invoke(app, [*call, "--phrase", "c", *boxes]).exit_code == 0
    assert runner.invoke(app, [*call, *boxes]).exit_code == 0
    two, refined, alone = (task.queries.include for task in service.tasks)
    assert [query.phrase for query in two] == ["a", "b"]
    assert (refined[0].phrase, alone[0].phrase) == ("c", "")
    assert [exemplar.negative for exemplar in refined[0].exemplars] == [False, True]
    assert refined[0].exemplars[0].box.x1 == 3.5


def test_negative_boxes_alone_are_not_sent(
    runner: CliRunner, address: str, picture: Path, service: StandIn
) -> None:
    call = ["segment", str(picture), "--address", address, "--box", "5,6,7,8:neg"]
    result = runner.invoke(app, call)
    assert result.exit_code == 2
    assert ":neg goes with a --phrase" in result.stderr
    assert service.tasks == []
    assert runner.invoke(app, [*call, "--phrase", "dog"]).exit_code == 0


def test_damaged_pictures_are_taken_only_if_asked(
    runner: CliRunner, address: str, picture: Path, service: StandIn
) -> None:
    call = ["segment", str(picture), "a dog", "--address", address]
    plain, asked = runner.invoke(app, call), runner.invoke(app, [*call, "--accept-damaged"])
    assert [task.image.accept_damaged for task in service.tasks] == [False, True]
    assert "The image has lost pixels." not in plain.stdout
    assert "The image has lost pixels." in asked.stdout
    values = json.loads(runner.invoke(app, [*call, "--accept-damaged", "--json"]).stdout)
    assert values["warnings"] == ["The image has lost pixels."]


def test_pictures_are_written(
    runner: CliRunner, address: str, picture: Path, service: StandIn, tmp_path: Path
) -> None:
    beach = tmp_path / "beach.jpg"
    beach.write_bytes(b"beach")
    result = runner.invoke(
        app,
        [
            *("segment", str(picture), "x", "--address", address),
            *("--overlay", "o.jpg", "--spotlight", "s.png", "--cutout", "c.webp"),
            *("--background", str(beach), "--masks", "masks"),
        ],
    )
    assert result.exit_code == 0
    kinds = [
        (limelight_pb2.RenderKind.Name(spec.kind), limelight_pb2.ImageFormat.Name(spec.format))
        for spec in service.tasks[0].renders
    ]
    assert kinds == [
        ("RENDER_KIND_OVERLAY", "IMAGE_FORMAT_JPEG"),
        ("RENDER_KIND_SPOTLIGHT", "IMAGE_FORMAT_PNG"),
        ("RENDER_KIND_CUTOUT", "IMAGE_FORMAT_WEBP"),
        ("RENDER_KIND_BACKGROUND", "IMAGE_FORMAT_PNG"),
    ]
    assert service.tasks[0].renders[3].background_image.content == b"beach"
    for name in ("o.jpg", "s.png", "c.webp", "photo-background.png"):
        assert (tmp_path / name).read_bytes() == b"picture"
    assert len(list((tmp_path / "masks").iterdir())) == 2


def test_a_background_may_be_a_color_by_name(
    runner: CliRunner, address: str, picture: Path, service: StandIn
) -> None:
    call = ["segment", str(picture), "x", "--address", address, "--background", "teal"]
    assert runner.invoke(app, call).exit_code == 0
    assert service.tasks[0].renders[0].background_color == "#008080"


def test_reads_standard_input(runner: CliRunner, address: str, service: StandIn) -> None:
    result = runner.invoke(app, ["segment", "-", "x", "--address", address], input=b"bytes")
    assert result.exit_code == 0
    assert service.tasks[0].image.content == b"bytes"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "INSTRUCTION or --phrase"),
        (["the dogs", "--phrase", "dog"], "INSTRUCTION or --phrase"),
        (["--box", "1,2,3"], "x0,y0,x1,y1"),
        (["--box", "1,2,3,4:no"], "x0,y0,x1,y1"),
        (["--phrase", "a", "--phrase", "b", "--box", "1,2,3,4"], "one --phrase"),
        (["x", "--cutout", "c.jpg"], "no transparency"),
        (["x", "--overlay", "o.gif"], ".png, .jpg or .webp"),
        (["x", "--overlay", "nowhere/o.png"], "no folder"),
        (["x", "--background", "no-color"], "neither a file nor a color"),
        (["x", "--background-out", "b.png"], "needs --background"),
        (["x", "--threshold", "1.5"], "--threshold"),
        (["x", "--threshold", "nan"], "--threshold"),
        (["x", "--timeout", "nan"], "--timeout"),
        (["x", "--timeout", "inf"], "not a finite number"),
        (["x\udce9"], "half of a surrogate pair"),
        (["--phrase", "x\udce9"], "half of a surrogate pair"),
        (["x", "--overlay", "photo.png"], "would be written over"),
        (["x", "--overlay", "o.png", "--spotlight", "./o.png"], "would be written over"),
        (["x", "--background", "b" * 5000], "neither a file nor a color"),
        (["x", "--background", "a\0b"], "neither a file nor a color"),
    ],
)
def test_wrong_usage_ends_with_2_and_sends_nothing(
    runner: CliRunner,
    address: str,
    picture: Path,
    service: StandIn,
    arguments: list[str],
    says: str,
) -> None:
    result = runner.invoke(app, ["segment", str(picture), *arguments, "--address", address])
    assert result.exit_code == 2
    assert says in result.stderr
    assert not service.tasks


def test_a_missing_picture_ends_with_2(runner: CliRunner, address: str) -> None:
    result = runner.invoke(app, ["segment", "none.png", "x", "--address", address])
    assert result.exit_code == 2
    assert "none.png: No such file" in result.stderr


def test_a_refusal_ends_with_1_and_says_why(
    runner: CliRunner, address: str, picture: Path, service: StandIn
) -> None:
    service.faults = [
        InvalidMedia(Reason.IMAGE_CORRUPT, "cut short", field=FieldPath.parse("task.image.content"))
    ]
    result = runner.invoke(app, ["segment", str(picture), "x", "--address", address])
    assert result.exit_code == 1
    assert "INVALID_ARGUMENT (IMAGE_CORRUPT): cut short [task.image.content]" in result.stderr
    assert not result.stdout


def test_no_stack_ends_with_3_and_says_what_to_do(runner: CliRunner, picture: Path) -> None:
    result = runner.invoke(app, ["segment", str(picture), "x"])
    assert result.exit_code == 3
    assert "limelight up" in result.stderr


def test_nothing_at_the_address_ends_with_3(runner: CliRunner, picture: Path) -> None:
    result = runner.invoke(app, ["segment", str(picture), "x", "--address", "127.0.0.1:9"])
    assert result.exit_code == 3
    assert "nothing answers at 127.0.0.1:9" in result.stderr


def test_masks_on_disk_are_those_of_the_answer(
    runner: CliRunner, address: str, picture: Path, tmp_path: Path
) -> None:
    runner.invoke(app, ["segment", str(picture), "x", "--address", address, "--masks", "m"])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "m/001-x.png")) > 0, mask(0))


def test_an_empty_path_ends_with_2(runner: CliRunner, address: str) -> None:
    result = runner.invoke(app, ["segment", "", "x", "--address", address])
    assert result.exit_code == 2
    assert "path is empty" in result.stderr


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_json_is_strict(
    runner: CliRunner, address: str, picture: Path, service: StandIn, score: float
) -> None:
    service.scores = [score]
    result = runner.invoke(app, ["segment", str(picture), "x", "--json", "--address", address])
    assert result.exit_code == 1
    assert "not finite" in result.stderr
    assert not result.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("phrase", ["café", "日本", "😀", "\u2028"])
def test_json_is_utf_8_whatever_the_terminal_is(
    address: str, picture: Path, encoding: str, phrase: str
) -> None:
    runner = CliRunner(charset=encoding)
    call = ["segment", str(picture), "--phrase", phrase, "--json", "--address", address]
    result = runner.invoke(app, call)
    assert result.exit_code == 0
    assert json.loads(result.stdout_bytes.decode())["instances"][0]["phrase"] == phrase
