"""Node reads what Python reads: masks, plan, errors with their details, health, large answers.

With `@grpc/grpc-js` and `@grpc/proto-loader` from `make tools`, the example of docs/clients.md and
the protos as they stand in this repository.
"""

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from limelight import AsyncClient
from services.gateway.app import SERVICE, Gateway
from services.gateway.peers import Peer

ROOT = Path(__file__).parents[2]
MODULES = ROOT / ".tools" / "node" / "node_modules"
EXAMPLE = ROOT / "examples" / "node" / "limelight.js"
OVERLAY = [{"kind": "RENDER_KIND_OVERLAY"}]

Answers = dict[str, dict[str, Any]]
Probe = Callable[..., Awaitable[Answers]]


def _node() -> str:
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is on no PATH")
    if not MODULES.is_dir():
        pytest.skip("@grpc/grpc-js is not installed: run 'make tools', which needs npm")
    return program


async def run(*words: str | Path) -> str:
    """What node prints, run with these words."""
    process = await asyncio.create_subprocess_exec(
        _node(),
        *words,
        env={"PATH": os.environ["PATH"], "NODE_PATH": str(MODULES)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def probe(**asked: dict[str, object]) -> Answers:
    """What Node was answered, by the names of what was asked."""
    answers: Answers = json.loads(
        await run(Path(__file__).with_name("probe.js"), json.dumps(asked, default=str))
    )
    return answers


async def test_it_reads_what_python_reads(gateway: Gateway, picture: Path) -> None:
    instruction = "the leftmost red thing"
    asked = {"address": gateway.address, "picture": picture}
    answers = await probe(
        phrase={**asked, "phrase": "red thing", "headers": {"x-request-id": "node-1"}},
        instruction={**asked, "instruction": instruction},
    )
    async with AsyncClient(gateway.address) as client:
        phrases = await client.segment(picture, phrases=["red thing"])
        planned = await client.segment(picture, instruction)
    assert answers["phrase"]["request_id"] == "node-1"
    assert sorted(answers["instruction"]["models"]) == [["planner", "fake"], ["segmenter", "fake"]]
    for theirs, ours in ((answers["phrase"], phrases), (answers["instruction"], planned)):
        assert theirs["size"] == [ours.width, ours.height]
        assert [_seen(item) for item in theirs["instances"]] == [
            (
                item.id,
                item.label,
                astuple(item.box),
                int(item.mask.sum()),
                hashlib.sha256(item.mask.astype("u1").tobytes()).hexdigest(),
            )
            for item in ours.instances
        ]
    assert [item["pixels"] for item in answers["phrase"]["instances"]] == [1100, 600]
    plan = answers["instruction"]["plan"]
    assert plan["outcome"] == "PLAN_OUTCOME_OK"
    assert [query["phrase"] for query in plan["include"]] == ["red thing"]
    assert plan["select"]["by"] == "SELECT_BY_LEFTMOST"


def _seen(item: dict[str, Any]) -> tuple[object, ...]:
    return item["id"], item["label"], tuple(item["box"]), item["pixels"], item["sha256"]


async def test_it_reads_why_a_call_failed(gateway: Gateway, lonely: Gateway, picture: Path) -> None:
    asked = {"address": gateway.address, "picture": picture, "headers": {"x-request-id": "node-2"}}
    answers = await probe(
        blank={**asked, "phrase": " "},
        late={**asked, "phrase": "cat", "headers": {"x-limelight-timeout-ms": "0"}},
        priority={**asked, "phrase": "cat", "headers": {"x-limelight-priority": "mine"}},
        # Without retries, which would take their seconds to come to the same.
        away={
            **asked,
            "address": lonely.address,
            "instruction": "the cats",
            "options": {"grpc.enable_retries": 0},
        },
        gone={**asked, "phrase": "cat", "seconds": -1},
    )
    blank = answers["blank"]
    assert blank["status"] == "INVALID_ARGUMENT"
    assert blank["ErrorInfo"]["reason"] == "PHRASE_INVALID"
    assert blank["ErrorInfo"]["domain"] == "limelight.v1"
    assert blank["ErrorInfo"]["metadata"]["request_id"] == "node-2"
    (violation,) = blank["BadRequest"]["field_violations"]
    assert violation["field"] == "task.queries.include[0].phrase"
    assert violation["description"] == blank["message"]

    assert answers["late"]["status"] == "DEADLINE_EXCEEDED"
    assert answers["late"]["ErrorInfo"]["reason"] == "DEADLINE_PASSED"
    assert answers["priority"]["ErrorInfo"]["reason"] == "METADATA_INVALID"
    assert answers["priority"]["ErrorInfo"]["metadata"]["field"] == "metadata.x-limelight-priority"

    away = answers["away"]
    assert (away["status"], away["ErrorInfo"]["reason"]) == ("UNAVAILABLE", "PLANNER_UNAVAILABLE")
    delay = away["RetryInfo"]["retry_delay"]
    assert delay["seconds"] + delay["nanos"] / 1e9 > 0

    # What Node says itself has no details.
    assert answers["gone"]["status"] == "DEADLINE_EXCEEDED"
    assert "ErrorInfo" not in answers["gone"]


async def test_answers_of_more_than_4_mib(gateway: Gateway, noise: Path) -> None:
    asked = {"address": gateway.address, "picture": noise, "phrase": "dog", "renders": OVERLAY}
    usual = {"grpc.max_receive_message_length": 4 * 2**20}
    answers = await probe(
        large=asked,
        too_large={**asked, "options": usual},
        told={
            **asked,
            "options": usual,
            "headers": {"x-limelight-max-answer-bytes": str(4 * 2**20)},
        },
    )
    (length,) = answers["large"]["renderings"]
    assert length > 4 * 2**20
    # grpc-js has thrown it away, and does not say what would help.
    assert answers["too_large"]["status"] == "RESOURCE_EXHAUSTED"
    assert "ErrorInfo" not in answers["too_large"]
    told = answers["told"]
    assert told["status"] == "RESOURCE_EXHAUSTED"
    assert told["ErrorInfo"]["reason"] == "IMAGE_TOO_LARGE"
    assert told["ErrorInfo"]["metadata"]["field"] == "task.renders[0].format"
    assert "JPEG takes far less" in told["message"]


async def test_it_reads_health(gateway: Gateway, until: Callable[..., Awaitable[None]]) -> None:
    await until(lambda: all(peer.ready for peer in _peers(gateway)))
    answers = await probe(
        server={"address": gateway.address, "service": ""},
        unknown={"address": gateway.address, "service": "nobody"},
    )
    assert answers == {"server": {"status": "SERVING"}, "unknown": {"status": "NOT_FOUND"}}


def _peers(gateway: Gateway) -> tuple[Peer, ...]:
    return gateway._peers


async def test_the_example_runs_as_the_documents_say(gateway: Gateway, picture: Path) -> None:
    shown = await run(EXAMPLE, gateway.address, str(picture), "the red things")
    assert "600 pixels" in shown
    assert "1100 pixels" in shown
    assert SERVICE in EXAMPLE.read_text("utf-8")
