"""`limelight track` against a real server that answers with the true masks of a clip."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from services.cli.main import app
from services.codecs.render import instance_color
from services.codecs.videos.decode import VideoDecoder
from services.codecs.videos.demux import Demuxer
from services.errors import Reason
from tests.cli.clip_stand_in import FRAMES, ClipStandIn, truth
from tests.client.stand_in import serving
from tests.tracker.clips import RED, SIZE, demuxed, picture


@pytest.fixture
def service() -> ClipStandIn:
    return ClipStandIn()


@pytest.fixture
def address(service: ClipStandIn) -> Iterator[str]:
    with serving(service) as address:  # type: ignore[arg-type]
        yield address


@pytest.fixture
def clip(tmp_path: Path) -> str:
    (tmp_path / "clip.mkv").write_bytes(demuxed(FRAMES).content)
    return "clip.mkv"


def invoke(runner: CliRunner, address: str, *arguments: str, **options: Any) -> Any:
    return runner.invoke(app, ["track", *arguments, "--address", address], **options)


def pictures(path: Path, layout: str = "rgb24") -> list[np.ndarray]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format=layout) for frame in file.decode(video=0)]


def test_tells_the_plan_and_a_line_an_object(
    runner: CliRunner, address: str, clip: str, service: ClipStandIn
) -> None:
    result = invoke(runner, address, clip, "the red square")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "plan  the red square"
    (row,) = [line for line in lines if line.lstrip().startswith("3")]
    assert row.split() == ["3", "red", "square", "40", "0", "39", "9,216"]
    assert "Found 1 thing." in lines
    assert "40 frames · tracker stand-in" in lines
    assert "\x1b" not in result.output
    assert service.media == demuxed(FRAMES).content
    assert service.configs[0].instruction == "the red square"


def test_options_reach_the_service(
    runner: CliRunner, address: str, clip: str, service: ClipStandIn
) -> None:
    result = invoke(
        runner,
        address,
        clip,
        *("--phrase", "red square", "--phrase", "dog"),
        *("--stride", "2", "--max-side", "48", "--from", "0.2", "--to", "1.0"),
        *("--threshold", "0.4", "--max-objects", "5", "--no-review"),
    )
    assert result.exit_code == 0, result.output
    config = service.configs[0]
    assert [query.phrase for query in config.queries.include] == ["red square", "dog"]
    assert (config.stride, config.max_side, config.max_objects) == (2, 48, 5)
    assert (config.range.start_s, config.range.end_s) == (0.2, 1.0)
    assert config.score_threshold == pytest.approx(0.4)
    assert "10 frames" in result.stdout  # 6, 8, ... 24


def test_json_lines_hold_every_frame(runner: CliRunner, address: str, clip: str) -> None:
    result = invoke(runner, address, clip, "--phrase", "red square", "--json", "tracks.jsonl")
    assert result.exit_code == 0, result.output
    assert "wrote tracks.jsonl" in result.stderr
    plan, *frames, summary = map(json.loads, Path("tracks.jsonl").read_text().splitlines())
    assert plan["plan"]["include"] == [{"phrase": "red square"}]
    assert [frame["frame"] for frame in frames] == list(range(FRAMES))
    assert frames[5]["time_s"] == 0.2
    assert frames[9]["instances"] == []
    (item,) = frames[5]["instances"]
    assert {"id", "label", "score", "box", "mask"} <= item.keys()
    assert item["mask"]["size"] == [SIZE[1], SIZE[0]]
    assert summary["objects"][0]["id"] == 3


def test_json_on_standard_output_is_alone_there(runner: CliRunner, address: str, clip: str) -> None:
    result = invoke(runner, address, clip, "dog", "--json", "-")
    assert result.exit_code == 0, result.output
    assert len([json.loads(line) for line in result.stdout.splitlines()]) == FRAMES + 2


def test_overlay_cutout_and_background(runner: CliRunner, address: str, clip: str) -> None:
    Image.new("RGB", (10, 10), (0, 200, 0)).save("green.png")
    result = invoke(
        runner,
        address,
        clip,
        "dog",
        *("--overlay", "o.mp4", "--cutout", "c.webm", "--background", "green.png"),
    )
    assert result.exit_code == 0, result.output
    for name in ("o.mp4", "c.webm", "clip-background.mp4"):
        assert f"wrote {name}" in result.stderr
    drawn = pictures(Path("o.mp4"))
    assert len(drawn) == FRAMES
    inside = truth(5)
    inside[:, :12] = inside[:, 22:] = False  # away from the tag and the edges
    inside[:14] = inside[22:] = False
    tint = np.array(instance_color(3))
    before, after = (
        np.abs(pixels[inside].mean(0) - tint).sum() for pixels in (picture(5), drawn[5])
    )
    assert after < before  # painted in the object's color
    behind = pictures(Path("clip-background.mp4"))
    assert len(behind) == FRAMES
    assert np.abs(behind[5][60, 5].astype(int) - (0, 200, 0)).max() < 40
    assert np.abs(behind[5][18, 17].astype(int) - RED).max() < 60
    with av.open("c.webm") as file:
        metadata = file.streams.video[0].metadata
        assert {key.lower(): value for key, value in metadata.items()}["alpha_mode"] == "1"
        assert sum(1 for _ in file.demux(video=0)) >= FRAMES


def test_a_part_is_drawn_from_its_first_frame_on(
    runner: CliRunner, address: str, clip: str
) -> None:
    result = invoke(
        runner, address, clip, "dog", "--from", "0.4", "--stride", "2", "--overlay", "o.mp4"
    )
    assert result.exit_code == 0, result.output
    with av.open("o.mp4") as file:
        times = [frame.time for frame in file.decode(video=0)]
    assert times == pytest.approx([number * 0.08 for number in range(15)], abs=1e-3)


def test_annotations(runner: CliRunner, address: str, clip: str) -> None:
    result = invoke(
        runner, address, clip, "dog", "--coco", "coco.json", "--youtube-vos", "vos.json"
    )
    assert result.exit_code == 0, result.output
    coco = json.loads(Path("coco.json").read_text())
    assert len(coco["images"]) == FRAMES
    assert len(coco["annotations"]) == FRAMES - 4
    first = coco["annotations"][0]
    assert (first["image_id"], first["track_id"], first["bbox"]) == (1, 3, [4, 10, 16, 16])
    assert coco["categories"] == [{"id": first["category_id"], "name": "red square"}]
    vos = json.loads(Path("vos.json").read_text())
    (video,), (masklet,) = vos["videos"], vos["annotations"]
    assert (video["length"], video["width"], video["height"]) == (FRAMES, *SIZE)
    assert [area is None for area in masklet["areas"]] == [n % 10 == 9 for n in range(FRAMES)]
    assert masklet["bboxes"][9] is None
    assert len(masklet["segmentations"]) == FRAMES


def test_coco_annotations_are_read_by_pycocotools(
    runner: CliRunner, address: str, clip: str
) -> None:
    coco_api = pytest.importorskip("pycocotools.coco")
    assert invoke(runner, address, clip, "dog", "--coco", "coco.json").exit_code == 0
    coco = coco_api.COCO("coco.json")
    masks = [coco.annToMask(note) for note in coco.loadAnns(coco.getAnnIds(imgIds=[6]))]
    assert len(masks) == 1
    np.testing.assert_array_equal(masks[0].astype(bool), truth(5))


def test_a_folder_of_pictures(
    runner: CliRunner, address: str, service: ClipStandIn, tmp_path: Path
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(12):
        Image.fromarray(picture(number)).save(folder / f"{number}.png")  # 10 comes after 9
    result = invoke(runner, address, "frames", "dog", "--overlay", "o.mp4", "--rate", "10")
    assert result.exit_code == 0, result.output
    with Demuxer(io.BytesIO(service.media)) as demuxer:
        decoder = VideoDecoder(demuxer.header)
        sent = [frame for gop in demuxer.gops() for frame in decoder.decode(gop)]
    assert [frame.time_s for frame in sent] == pytest.approx([n / 10 for n in range(12)])
    for number, frame in enumerate(sent):
        assert np.abs(frame.pixels.astype(int) - picture(number)).mean() < 4
    assert len(pictures(Path("o.mp4"))) == 12


def test_pictures_of_different_sizes_are_no_video(
    runner: CliRunner, address: str, tmp_path: Path
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(folder / "a.png")
    Image.new("RGB", (64, 32)).save(folder / "b.png")
    result = invoke(runner, address, "frames", "dog")
    assert result.exit_code == 2
    assert "b.png is 64x32, the first picture is 64x64" in result.stderr


def test_a_pipe(address: str, clip: str, service: ClipStandIn, tmp_path: Path) -> None:
    """As a person pipes it: the bytes cannot be read twice, and still the overlay is drawn."""
    command = [sys.executable, "-m", "services.cli.main", "track", "-", "dog"]
    cat = ["cat", str(tmp_path / clip)]
    with subprocess.Popen(cat, stdout=subprocess.PIPE) as sender:
        done = subprocess.run(
            [*command, "--overlay", str(tmp_path / "o.mp4"), "--address", address],
            stdin=sender.stdout,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    assert service.media == demuxed(FRAMES).content
    assert len(pictures(tmp_path / "o.mp4")) == FRAMES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.mp4", "dog"], "there is no file nothing.mp4"),
        (["empty", "dog"], "the folder empty has no picture in it"),
        (["camera:97", "dog"], "this machine has no camera /dev/video97"),
        (["clip.mkv"], "give either an INSTRUCTION or --phrase"),
        (["clip.mkv", "dog", "--phrase", "cat"], "give either an INSTRUCTION or --phrase"),
        (["clip.mkv", "dog", "--overlay", "o.avi"], "o.avi: this is written as .mp4"),
        (["clip.mkv", "dog", "--cutout", "c.mp4"], "c.mp4: this is written as .webm"),
        (["clip.mkv", "dog", "--overlay", "no/o.mp4"], "there is no folder no"),
        (["clip.mkv", "dog", "--json", "no/o.jsonl"], "there is no folder no"),
        (["clip.mkv", "dog", "--background", "reddish"], "is neither a file nor a color"),
        (["clip.mkv", "dog", "--background-out", "b.mp4"], "needs --background"),
        (["clip.mkv", "dog", "--from", "2", "--to", "1"], "--to must be after --from"),
    ],
)
def test_wrong_usage_says_what_is_wrong(
    runner: CliRunner, address: str, clip: str, arguments: list[str], message: str
) -> None:
    Path("empty").mkdir()
    result = invoke(runner, address, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_file_that_is_no_video(runner: CliRunner, address: str) -> None:
    Path("notes.txt").write_text("These are notes. " * 50)
    result = invoke(runner, address, "notes.txt", "dog", "--overlay", "o.mp4")
    assert result.exit_code == 1
    assert Reason.VIDEO_UNSUPPORTED.value in result.stderr
    assert "request id" in result.stderr
    assert not Path("o.mp4").exists()
    assert not list(Path().glob("*.part"))


def test_nobody_there(runner: CliRunner, clip: str) -> None:
    result = invoke(runner, "127.0.0.1:1", clip, "dog")
    assert result.exit_code == 3
    assert "nothing answers at 127.0.0.1:1" in result.stderr
