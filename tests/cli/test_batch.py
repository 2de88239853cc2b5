"""`limelight batch`: a line for every line, whatever happens."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from limelight.paths import FieldPath
from services.cli.main import app
from services.errors import InvalidRequest, Overloaded, Reason
from tests.client.stand_in import StandIn


def write(path: Path, *lines: Any) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_line_a_request(runner: CliRunner, address: str, picture: Path) -> None:
    source = write(
        picture.parent / "in.jsonl",
        {"id": "a", "image": "photo.png", "instruction": "the dogs"},
        "",
        {"id": 2, "image": str(picture), "phrases": ["cat", "dog"]},
    )
    result = runner.invoke(app, ["batch", str(source), "--out", "out.jsonl", "--address", address])
    assert result.exit_code == 0
    lines = {line["id"]: line for line in read(picture.parent / "out.jsonl")}
    assert set(lines) == {"a", 2}
    expected = {"id", "width", "height", "plan", "instances", "timings_ms", "request_id"}
    for line in lines.values():
        assert expected <= set(line)
    assert [query["phrase"] for query in lines[2]["plan"]["include"]] == ["cat", "dog"]
    instance = lines["a"]["instances"][0]
    assert {"id", "label", "phrase", "score", "box", "mask"} <= set(instance)
    assert set(instance["mask"]) == {"size", "counts"}
    assert "2 answered" in result.stderr
    assert not result.stdout
    assert "\x1b" not in result.output


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("not json", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ({"id": "x", "image": "photo.png"}, "either instruction or phrases"),
        ({"id": "x", "image": "photo.png", "instruction": "a", "phrases": ["b"]}, "either"),
        ({"id": "x", "image": "photo.png", "instruction": 5}, "must be a string"),
        ({"id": "x", "image": "photo.png", "phrases": "dog"}, "list of strings"),
        ({"id": "x", "image": "photo.png", "phrases": [1]}, "list of strings"),
        ({"id": "x", "image": 5, "phrases": ["a"]}, "must be a path"),
        ({"image": "photo.png", "phrases": ["a"]}, "id is missing"),
        ({"id": ["x"], "image": "photo.png", "phrases": ["a"]}, "id must be"),
        ({"id": "x", "image": "photo.png", "phrases": ["a"], "phrase": "b"}, "unknown key"),
        ({"id": "x", "image": "none.png", "phrases": ["a"]}, "No such file"),
        ({"id": "x", "image": ".", "phrases": ["a"]}, "Is a directory"),
        ({"id": "x", "image": "a\x00b", "phrases": ["a"]}, "null"),
        ({"id": "x", "image": "photo.png", "phrases": ["\ud800"]}, "surrogates"),
        ({"id": "\ud800", "image": "none.png", "phrases": ["a"]}, "No such file"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_a_bad_line_is_an_error_line_and_no_stop(
    runner: CliRunner, address: str, picture: Path, line: Any, says: str
) -> None:
    good = {"id": "good", "image": "photo.png", "phrases": ["dog"]}
    source = write(picture.parent / "in.jsonl", line, good)
    call = ["batch", str(source), "--out", "out.jsonl", "--address", address, "--concurrency", "1"]
    result = runner.invoke(app, call)
    assert result.exit_code == 1
    bad, answered = read(picture.parent / "out.jsonl")
    assert answered["id"] == "good"
    assert "error" not in answered
    assert set(bad["error"]) == {"code", "reason", "message"}
    assert says in bad["error"]["message"]
    assert bad["id"] == (
        line.get("id") if isinstance(line, dict) and says != "id must be" else None
    )
    assert "1 failed" in result.stderr


def test_a_refusal_is_an_error_line(
    runner: CliRunner, address: str, picture: Path, service: StandIn
) -> None:
    service.faults = [
        InvalidRequest(Reason.PHRASE_TOO_LONG, "too long", field=FieldPath.parse("task.queries"))
    ]
    source = write(picture.parent / "in.jsonl", {"id": 1, "image": "photo.png", "phrases": ["x"]})
    result = runner.invoke(app, ["batch", str(source), "--out", "out.jsonl", "--address", address])
    assert result.exit_code == 1
    (line,) = read(picture.parent / "out.jsonl")
    assert line["error"] == {
        "code": "INVALID_ARGUMENT",
        "reason": "PHRASE_TOO_LONG",
        "message": "too long",
        "field": "task.queries",
    }


def test_waits_for_a_full_service(
    runner: CliRunner, address: str, picture: Path, service: StandIn
) -> None:
    service.faults = [Overloaded(Reason.OVERLOADED, "full", retry_after_s=0.01)] * 5
    source = write(picture.parent / "in.jsonl", {"id": 1, "image": "photo.png", "phrases": ["x"]})
    result = runner.invoke(app, ["batch", str(source), "--out", "out.jsonl", "--address", address])
    assert result.exit_code == 0
    assert len(service.tasks) == 6


def test_no_more_at_a_time_than_asked(
    runner: CliRunner, address: str, picture: Path, service: StandIn
) -> None:
    service.gate = threading.Event()
    threading.Timer(0.5, service.gate.set).start()
    lines = [{"id": n, "image": "photo.png", "phrases": ["x"]} for n in range(20)]
    source = write(picture.parent / "in.jsonl", *lines)
    call = ["batch", str(source), "--out", "out.jsonl", "--address", address, "--concurrency", "3"]
    assert runner.invoke(app, call).exit_code == 0
    assert service.most_at_once == 3
    assert sorted(line["id"] for line in read(picture.parent / "out.jsonl")) == list(range(20))


def test_resume_asks_only_for_what_has_no_answer(
    runner: CliRunner, address: str, picture: Path, service: StandIn
) -> None:
    folder = picture.parent
    requests = [{"id": n, "image": "photo.png", "phrases": [str(n)]} for n in range(4)]
    source = write(folder / "in.jsonl", *requests)
    (folder / "out.jsonl").write_text(
        '{"id":0,"width":1}\n{"id":1,"error":{"code":"INTERNAL"}}\n{"id":"2","width":1}\n{"id":3,"wi'
    )
    call = ["batch", str(source), "--out", "out.jsonl", "--address", address, "--resume"]
    result = runner.invoke(app, call)
    assert result.exit_code == 0
    assert sorted(task.queries.include[0].phrase for task in service.tasks) == ["1", "2", "3"]
    lines = read(folder / "out.jsonl")
    assert sorted(str(line["id"]) for line in lines) == ["0", "1", "2", "2", "3"]
    assert not any("error" in line for line in lines)
    assert "1 kept" in result.stderr
    again = runner.invoke(app, call)
    assert again.exit_code == 0
    assert len(service.tasks) == 3


def test_without_resume_results_are_written_anew(
    runner: CliRunner, address: str, picture: Path
) -> None:
    source = write(picture.parent / "in.jsonl", {"id": 1, "image": "photo.png", "phrases": ["x"]})
    (picture.parent / "out.jsonl").write_text('{"id":9}\n')
    runner.invoke(app, ["batch", str(source), "--out", "out.jsonl", "--address", address])
    assert [line["id"] for line in read(picture.parent / "out.jsonl")] == [1]


def test_results_over_requests_are_refused(runner: CliRunner, address: str, picture: Path) -> None:
    source = write(picture.parent / "in.jsonl", {"id": 1, "image": "photo.png", "phrases": ["x"]})
    before = source.read_text()
    call = ["batch", str(source), "--out", str(source), "--address", address]
    assert runner.invoke(app, call).exit_code == 2
    assert source.read_text() == before


def test_ctrl_c_leaves_whole_lines_and_resume_goes_on(
    runner: CliRunner, address: str, picture: Path, service: StandIn
) -> None:
    folder = picture.parent
    lines = [{"id": n, "image": "photo.png", "phrases": ["x"]} for n in range(30)]
    source = write(folder / "in.jsonl", *lines)
    out = folder / "out.jsonl"
    call = ["batch", str(source), "--out", str(out), "--address", address, "--concurrency", "2"]
    service.gate = threading.Event()
    process = subprocess.Popen(
        [sys.executable, "-m", "services.cli.main", *call],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert service.called.wait(60)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "30 not done" in told
    assert "Traceback" not in told
    assert service.cancelled.wait(60)
    assert read(out) == []
    service.gate.set()
    assert runner.invoke(app, [*call, "--resume"]).exit_code == 0
    assert sorted(line["id"] for line in read(out)) == list(range(30))
