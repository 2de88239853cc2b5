"""`limelight demo` asks about its pictures and its clip, and shows what a service answers."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from limelight.v1 import video_pb2
from services.cli.demo import CLIP, CLIP_INSTRUCTION, PICTURES, SHOWPIECES
from services.cli.main import app
from services.errors import InvalidRequest, Reason
from tests.cli.clip_stand_in import ClipStandIn, masked_frame
from tests.client.stand_in import StandIn, serving

CLIP_SIZE, CLIP_FRAMES = (640, 400), 60


class DemoStandIn(StandIn, ClipStandIn):
    """Finds a moving square in the clip."""

    def __init__(self) -> None:
        ClipStandIn.__init__(self)
        StandIn.__init__(self)

    def frame(self, index: int) -> video_pb2.TrackedFrame:
        mask = np.zeros(CLIP_SIZE[::-1], bool)
        mask[40:90, 4 * index : 4 * index + 50] = True
        return masked_frame(index, mask, 1 / 15)


@pytest.fixture
def service() -> DemoStandIn:
    return DemoStandIn()


@pytest.fixture
def address(service: DemoStandIn) -> Iterator[str]:
    with serving(service) as address:
        yield address


def test_every_picture_is_asked_about_and_shown(
    runner: CliRunner, address: str, service: DemoStandIn, tmp_path: Path
) -> None:
    result = runner.invoke(app, ["demo", "--address", address])
    assert result.exit_code == 0
    assert [task.instruction for task in service.tasks] == list(SHOWPIECES.values())
    assert "put the main subjects in the spotlight" in service.tasks[0].instruction
    for name, instruction in SHOWPIECES.items():
        assert f"“{instruction}”" in result.stdout
        picture = tmp_path / "out/demo" / f"{name}.png"
        assert picture.read_bytes() == (PICTURES / f"{name}.png").read_bytes()
        for kind in ("overlay", "spotlight", "cutout"):
            assert (tmp_path / "out/demo" / f"{name}-{kind}.png").exists()
    # The clip is tracked as a whole, told by a line an object, and drawn.
    (config,) = service.configs
    assert config.instruction == CLIP_INSTRUCTION
    assert service.media == (PICTURES / CLIP).read_bytes()
    assert f"“{CLIP_INSTRUCTION}”" in result.stdout
    assert "red square" in result.stdout
    with av.open(str(tmp_path / "out/demo/walk-overlay.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.width, stream.height) == CLIP_SIZE
        assert sum(1 for _ in video.decode(stream)) == CLIP_FRAMES


def test_a_failure_ends_it(runner: CliRunner, address: str, service: DemoStandIn) -> None:
    service.faults = [InvalidRequest(Reason.INSTRUCTION_INVALID, "no")]
    result = runner.invoke(app, ["demo", "--address", address])
    assert result.exit_code == 1
    assert "INSTRUCTION_INVALID" in result.stderr
