"""A client of generated stubs and gRPC alone, as those of other languages are.

The example of docs/clients.md runs in a process of its own, whose only `limelight` is what protoc
makes of the contract with the command that the document gives.
"""

import asyncio
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from services.gateway.app import Gateway

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "stubs" / "ask.py"
DOCUMENT = ROOT / "docs" / "clients.md"


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the generated code."""
    folder = tmp_path_factory.mktemp("stubs")
    (command,) = re.findall(r"^python -m grpc_tools\.protoc .*$", DOCUMENT.read_text("utf-8"), re.M)
    words = shlex.split(command.replace("$OUT", str(folder)))
    files = [file for word in words for file in _expanded(word)]
    subprocess.run([sys.executable, *files[1:]], cwd=ROOT, check=True, timeout=60)
    # The client is installed here, and a package comes before folders that are none.
    for package in ("limelight", "limelight/v1"):
        (folder / package / "__init__.py").touch()
    return folder


def _expanded(word: str) -> list[str]:
    if "*" not in word:
        return [word]
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(word))


async def ask(stubs: Path, address: str, *words: str | Path) -> tuple[int, str]:
    """How the example ends, and what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLE,
        address,
        *words,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(stubs)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert not err, err.decode()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_it_reads_an_answer(stubs: Path, gateway: Gateway, picture: Path) -> None:
    status, shown = await ask(stubs, gateway.address, picture, "the red things")
    assert status == 0
    assert [line.split()[-2] for line in shown.splitlines()[1:]] == ["1100", "600"]


async def test_it_reads_an_answer_of_more_than_4_mib(
    stubs: Path, gateway: Gateway, noise: Path
) -> None:
    sizes = (
        "import sys, ask, grpc, pathlib\n"
        "from limelight.v1 import limelight_pb2 as pb, limelight_pb2_grpc as rpc\n"
        "channel = grpc.insecure_channel(sys.argv[1], options=ask.OPTIONS)\n"
        "task = pb.SegmentTask(image={'content': pathlib.Path(sys.argv[2]).read_bytes()})\n"
        "task.queries.include.add(phrase='dog')\n"
        "task.renders.add(kind=pb.RENDER_KIND_OVERLAY)\n"
        "stub, request = rpc.LimelightServiceStub(channel), pb.SegmentRequest(task=task)\n"
        "result = stub.Segment(request, timeout=60).result\n"
        "print(len(result.renderings[0].content), pb.__file__)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        sizes,
        gateway.address,
        noise,
        cwd=EXAMPLE.parent,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(stubs)},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    length, module = out.decode().split()
    assert int(length) > 4 * 2**20
    assert Path(module).is_relative_to(stubs)


async def test_it_reads_why_a_call_failed(
    stubs: Path, gateway: Gateway, lonely: Gateway, picture: Path
) -> None:
    status, shown = await ask(stubs, gateway.address, picture, " ")
    first, *details = shown.splitlines()
    assert status == 1
    assert first.startswith("INVALID_ARGUMENT ")
    seen = dict(line.split(" ", 1) for line in details)
    assert set(seen) == {"ErrorInfo", "BadRequest"}
    assert 'reason: "INSTRUCTION_INVALID" domain: "limelight.v1"' in seen["ErrorInfo"]
    assert 'field: "task.instruction"' in seen["BadRequest"]

    status, shown = await ask(stubs, lonely.address, picture, "the cats")
    assert status == 1
    assert shown.startswith("UNAVAILABLE ")
    assert 'reason: "PLANNER_UNAVAILABLE"' in shown
    assert "\nRetryInfo retry_delay { " in shown
