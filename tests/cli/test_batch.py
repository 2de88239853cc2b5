"""`limelight batch`: a line for every line, whatever happens."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from limelight import RetryPolicy
from limelight.paths import FieldPath
from services.cli import results
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
        ({"id": {}, "image": "photo.png", "phrases": ["a"]}, "id must be"),
        ({"id": True, "image": "photo.png", "phrases": ["a"]}, "id must be"),
        ({"id": None, "image": "photo.png", "phrases": ["a"]}, "id is missing"),
        ({"id": "x", "image": "i" * 5000, "phrases": ["a"]}, "too long"),
        ({"id": "x", "image": "photo.png", "phrases": ["a"], "phrase": "b"}, "unknown key"),
        ({"id": "x", "image": "none.png", "phrases": ["a"]}, "No such file"),
        ({"id": "x", "image": ".", "phrases": ["a"]}, "Is a directory"),
        ({"id": "x", "image": "a\x00b", "phrases": ["a"]}, "null"),
        ("[" * 100_000, "not valid JSON"),
        ('{"id":1e400,"image":"photo.png","phrases":["a"]}', "1e400 is too large"),
        ('{"id":1e-400,"image":"photo.png","phrases":["a"]}', "more digits than double"),
        ('{"id":0.10000000000000000001,"image":"photo.png"}', "more digits than double"),
        ('{"id":NaN,"image":"photo.png","phrases":["a"]}', "NaN is not a JSON value"),
        ('{"id":-Infinity,"image":"photo.png","phrases":["a"]}', "Infinity is not a JSON value"),
        ('{"id":1,"image":"photo.png","phrases":[NaN]}', "NaN is not a JSON value"),
        ('{"id":1,"id":2,"image":"photo.png","phrases":["a"]}', 'key "id" is given twice'),
        ('{"id":1,"image":"a","image":"photo.png","phrases":["a"]}', 'key "image" is given twice'),
        (r'{"id":"\ud800","image":"photo.png","phrases":["a"]}', "half of a surrogate pair"),
        (r'{"id":"x","image":"photo.png","phrases":["\uDFFF"]}', "half of a surrogate pair"),
        (r'{"id":"x","\udc00":"photo.png"}', "half of a surrogate pair"),
        ('{"id":"x",}', "not valid JSON"),
        ('{"id":"x"} {"id":"y"}', "not valid JSON"),
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


def test_damaged_pictures_are_taken_only_if_asked(
    runner: CliRunner, address: str, picture: Path, service: StandIn
) -> None:
    source = write(picture.parent / "in.jsonl", {"id": "a", "image": "photo.png", "phrases": ["b"]})
    call = ["batch", str(source), "--out", "out.jsonl", "--address", address]
    for options, warnings in (
        ([], []),
        (["--accept-damaged", "--overwrite"], ["The image has lost pixels."]),
    ):
        assert runner.invoke(app, [*call, *options]).exit_code == 0
        assert read(picture.parent / "out.jsonl")[0]["warnings"] == warnings
    assert [task.image.accept_damaged for task in service.tasks] == [False, True]


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


ANSWER = {"width": 1, "height": 1, "instances": [], "request_id": "r"}
ERROR = {"error": {"code": "INTERNAL", "reason": "", "message": "m"}, "request_id": "r"}


def test_resume_asks_only_for_what_has_no_answer(
    runner: CliRunner, address: str, picture: Path, service: StandIn
) -> None:
    folder = picture.parent
    requests = [{"id": n, "image": "photo.png", "phrases": [str(n)]} for n in (0, 1, 2, "2", 3)]
    source = write(folder / "in.jsonl", *requests)
    write(folder / "out.jsonl", {"id": 0, **ANSWER}, {"id": 1, **ERROR}, {"id": "2", **ANSWER})
    with (folder / "out.jsonl").open("a") as earlier:
        earlier.write('{"id":3,"wi')
    call = ["batch", str(source), "--out", "out.jsonl", "--address", address, "--resume"]
    result = runner.invoke(app, call)
    assert result.exit_code == 0
    assert sorted(task.queries.include[0].phrase for task in service.tasks) == ["1", "2", "3"]
    lines = read(folder / "out.jsonl")
    assert sorted(str(line["id"]) for line in lines) == ["0", "1", "2", "2", "3"]
    assert not any("error" in line for line in lines)
    assert "2 kept" in result.stderr
    assert "last line of out.jsonl was cut short" in result.stderr
    assert [path.name for path in folder.glob(".*")] == []
    again = runner.invoke(app, call)
    assert again.exit_code == 0
    assert len(service.tasks) == 3


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


def request(given: Any, phrase: str = "x") -> dict[str, Any]:
    return {"id": given, "image": "photo.png", "phrases": [phrase]}


def run_batch(
    runner: CliRunner, address: str, source: Path, *more: str, out: str = "out.jsonl"
) -> Result:
    return runner.invoke(app, ["batch", str(source), "--out", out, "--address", address, *more])


@pytest.mark.parametrize(
    "twice",
    [("a", "a"), (1, 1), (1, 1.0), (100, 1e2), (0, -0.0), (1.5, 1.5), (2**53, float(2**53))],
)
@pytest.mark.parametrize("more", [(), ("--resume",), ("--overwrite",)])
def test_an_id_given_twice_is_refused_before_anything_is_sent(
    runner: CliRunner, address: str, picture: Path, service: StandIn, twice: Any, more: Any
) -> None:
    source = write(picture.parent / "in.jsonl", request("z"), "", *map(request, twice))
    result = run_batch(runner, address, source, *more)
    assert result.exit_code == 2
    assert f"line 4: the id {json.dumps(twice[1])} is that of line 3" in result.stderr
    assert service.tasks == []
    assert not (picture.parent / "out.jsonl").exists()


@pytest.mark.parametrize(
    "line",
    [
        r'{"id":"\u0061","image":"photo.png","phrases":["x"]}',
        '{"id":"a"}',
        '{"id":"a","image":5,"phrases":["x"]}',
        '  {"phrases":["x"],"image":"photo.png","id":"a"}  ',
    ],
)
def test_an_id_is_seen_again_however_it_is_written(
    runner: CliRunner, address: str, picture: Path, service: StandIn, line: str
) -> None:
    source = write(picture.parent / "in.jsonl", request("a"), line)
    result = run_batch(runner, address, source)
    assert result.exit_code == 2
    assert 'line 2: the id "a" is that of line 1' in result.stderr
    assert service.tasks == []


def test_many_ids_given_twice_are_counted(runner: CliRunner, address: str, picture: Path) -> None:
    source = write(picture.parent / "in.jsonl", *[request(n % 20) for n in range(60)])
    result = run_batch(runner, address, source)
    assert "ids are given again" in result.stderr
    assert "line 21: the id 0 is that of line 1" in result.stderr
    assert "and 30 more" in result.stderr


@pytest.mark.parametrize(
    "ids",
    [
        [1, "1"],
        ["é", "e\u0301"],
        [0.1, "0.1", 1],
        [2**53, 2**53 + 1],
        [10**300, -1],
        ["", " ", "null"],
        ["日本", "نص", "😀", "\u2028", "a\nb"],
    ],
)
def test_ids_come_back_as_they_were_given(
    runner: CliRunner, address: str, picture: Path, ids: Any
) -> None:
    source = picture.parent / "in.jsonl"
    lines = [json.dumps(request(given), ensure_ascii=False) for given in ids]
    source.write_text("\n".join(lines), encoding="utf-8")
    assert run_batch(runner, address, source).exit_code == 0
    found = [line["id"] for line in read(picture.parent / "out.jsonl")]
    assert sorted(map(repr, found)) == sorted(map(repr, ids))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"id":"é"}\n{"id":"ü"}\n'.encode("latin-1"), "line 1, byte 8: 0xE9 is not UTF-8"),
        ('{"id":"a"}\r\n\r\n{"id":"ü"}'.encode("cp1252"), "line 3, byte 8: 0xFC is not UTF-8"),
        ('{"id":"a"}\n{"id":"日"}'.encode("shift-jis"), "line 2, byte 8: 0x93 is not UTF-8"),
        (b'\xef\xbb\xbf{"id":"\xff"}', "line 1, byte 11: 0xFF is not UTF-8"),
        (b'{"id":"\xed\xa0\x80"}', "line 1, byte 8: 0xED is not UTF-8"),
        ('{"id":"a"}'.encode("utf-16-le"), "line 1, NUL bytes, as in UTF-16"),
        ('{"id":"a"}'.encode("utf-16-be"), "line 1, NUL bytes, as in UTF-16"),
        ('{"id":"a"}\n'.encode("utf-16") + b"x", "line 2, byte 1: 0x78 is not UTF-16"),
    ],
)
def test_other_encodings_are_refused_by_line_and_byte(
    runner: CliRunner, address: str, picture: Path, service: StandIn, content: bytes, says: str
) -> None:
    source = picture.parent / "in.jsonl"
    source.write_bytes(content)
    result = run_batch(runner, address, source)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not (picture.parent / "out.jsonl").exists()
    assert service.tasks == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_every_line_is_asked_whatever_ends_it(
    runner: CliRunner, address: str, picture: Path, encoding: str, end: str, last: bool
) -> None:
    source = picture.parent / "in.jsonl"
    lines = [json.dumps(request(given), ensure_ascii=False) for given in ("é", "b")]
    text = end.join(["", lines[0], "", " \t", lines[1]]) + (end if last else "")
    source.write_bytes(text.encode(encoding))
    assert run_batch(runner, address, source).exit_code == 0
    found = [line["id"] for line in read(picture.parent / "out.jsonl")]
    assert sorted(found) == ["b", "é"]


def test_files_with_byte_order_marks_may_be_joined(
    runner: CliRunner, address: str, picture: Path
) -> None:
    source = picture.parent / "in.jsonl"
    parts = [f"{json.dumps(request(given))}\n".encode("utf-8-sig") for given in "ab"]
    source.write_bytes(b"".join(parts))
    assert run_batch(runner, address, source).exit_code == 0
    assert sorted(line["id"] for line in read(picture.parent / "out.jsonl")) == ["a", "b"]


def test_a_very_long_line_is_one_line(
    runner: CliRunner, address: str, picture: Path, service: StandIn
) -> None:
    source = write(picture.parent / "in.jsonl", request("a", "x" * 3_000_000), request("b"))
    assert run_batch(runner, address, source).exit_code == 0
    assert sorted(len(task.queries.include[0].phrase) for task in service.tasks) == [1, 3_000_000]


def test_requests_may_come_through_a_pipe(runner: CliRunner, address: str, picture: Path) -> None:
    pipe = picture.parent / "pipe"
    os.mkfifo(pipe)
    text = "".join(f"{json.dumps(request(n))}\n" for n in range(3))
    writer = threading.Thread(target=pipe.write_text, args=(text,))
    writer.start()
    assert run_batch(runner, address, pipe).exit_code == 0
    writer.join()
    assert len(read(picture.parent / "out.jsonl")) == 3


@pytest.mark.parametrize("earlier", ['{"id":9}\n', "notes of mine", "\n", "x" * 100_000])
def test_what_is_there_is_not_overwritten_unless_told(
    runner: CliRunner, address: str, picture: Path, service: StandIn, earlier: str
) -> None:
    source = write(picture.parent / "in.jsonl", request(1))
    out = picture.parent / "out.jsonl"
    out.write_text(earlier)
    refused = run_batch(runner, address, source)
    assert refused.exit_code == 2
    assert "out.jsonl is not empty: --resume keeps" in refused.stderr
    assert out.read_text() == earlier
    assert service.tasks == []
    assert run_batch(runner, address, source, "--overwrite").exit_code == 0
    assert [line["id"] for line in read(out)] == [1]
    assert run_batch(runner, address, source, "--overwrite", "--resume").exit_code == 2


def test_an_empty_file_is_written_to(runner: CliRunner, address: str, picture: Path) -> None:
    source = write(picture.parent / "in.jsonl", request(1))
    (picture.parent / "out.jsonl").touch()
    assert run_batch(runner, address, source).exit_code == 0
    assert len(read(picture.parent / "out.jsonl")) == 1


ANSWERED = json.dumps({"id": 1, **ANSWER})


@pytest.mark.parametrize(
    ("earlier", "says"),
    [
        ("notes of mine\n", "line 1: not valid JSON"),
        ("notes of mine", "line 1: not valid JSON"),
        (f"{ANSWERED}\nnotes\n", "line 2: not valid JSON"),
        (f'{{"id":1,"wi\n{ANSWERED}', "line 1: not valid JSON"),
        (f"{ANSWERED}\n" + json.dumps(request(2)), "line 2: not a result line: width"),
        (f"{ANSWERED}\n[1]\n", "line 2: not a result line"),
        (f'{ANSWERED}\n{{"id":2,"width":1}}\n', "line 2: not a result line: height"),
        (f'{ANSWERED}\n{{"id":2,"error":"no"}}\n', "line 2: not a result line: error"),
        (ANSWERED.replace("1", "NaN", 1), "line 1: NaN is not a JSON value"),
        (ANSWERED.replace("1", "true", 1), "line 1: not a result line: its id"),
        (ANSWERED.replace("1", "9", 1), "line 1: the id 9 is not in"),
        (ANSWERED.replace("1", '"1"', 1), 'line 1: the id "1" is not in'),
        (json.dumps({"id": 9, **ERROR}), "line 1: the id 9 is not in"),
        (f"{ANSWERED}\n{ANSWERED}\n", "line 2: the id 1 is answered on line 1"),
        (
            f"{ANSWERED}\n{ANSWERED.replace('1', '1.0', 1)}",
            "line 2: the id 1.0 is answered on line 1",
        ),
        (f'{ANSWERED}\n{{"id":"\xe9"}}\n', "line 2: not UTF-8"),
    ],
)
def test_resume_refuses_what_is_not_a_result_of_these_requests(
    runner: CliRunner, address: str, picture: Path, service: StandIn, earlier: str, says: str
) -> None:
    source = write(picture.parent / "in.jsonl", request(1), request(2))
    out = picture.parent / "out.jsonl"
    out.write_text(earlier, encoding="latin-1")
    result = run_batch(runner, address, source, "--resume")
    assert result.exit_code == 2
    assert says in result.stderr
    assert out.read_text(encoding="latin-1") == earlier
    assert service.tasks == []


@pytest.mark.parametrize(
    "end", ["", "\n", "\n\n", "\r\n", '\n{"id":2', '\n{"i', "\n{", "\n\0\0\0", '\n{"id":2\0\0']
)
def test_resume_goes_on_behind_whatever_a_crash_left(
    runner: CliRunner, address: str, picture: Path, service: StandIn, end: str
) -> None:
    source = write(picture.parent / "in.jsonl", request(1), request(2))
    out = picture.parent / "out.jsonl"
    out.write_text(f"\ufeff{ANSWERED}{end}", newline="")
    result = run_batch(runner, address, source, "--resume")
    assert result.exit_code == 0
    assert len(service.tasks) == 1
    lines = [json.loads(line) for line in out.read_text("utf-8-sig").splitlines() if line]
    assert [line["id"] for line in lines] == [1, 2]


def test_resume_follows_a_link_and_keeps_permissions(
    runner: CliRunner, address: str, picture: Path
) -> None:
    source = write(picture.parent / "in.jsonl", request(1), request(2))
    real = write(picture.parent / "real.jsonl", {"id": 1, **ERROR}, {"id": 2, **ANSWER})
    real.chmod(0o600)
    (picture.parent / "out.jsonl").symlink_to(real)
    assert run_batch(runner, address, source, "--resume").exit_code == 0
    assert (picture.parent / "out.jsonl").is_symlink()
    assert [line["id"] for line in read(real)] == [2, 1]
    assert real.stat().st_mode & 0o777 == 0o600


def test_a_hard_link_to_the_requests_is_not_written_to(
    runner: CliRunner, address: str, picture: Path
) -> None:
    source = write(picture.parent / "in.jsonl", request(1))
    (picture.parent / "out.jsonl").hardlink_to(source)
    for more in ((), ("--resume",), ("--overwrite",)):
        result = run_batch(runner, address, source, *more)
        assert result.exit_code == 2
        assert "--out is the file of the requests" in result.stderr
    assert len(read(source)) == 1


@pytest.mark.parametrize("more", ["--resume", "--overwrite"])
def test_two_runs_do_not_write_to_one_file(
    runner: CliRunner, address: str, picture: Path, service: StandIn, more: str
) -> None:
    source = write(picture.parent / "in.jsonl", request(1), request(2))
    out = write(picture.parent / "out.jsonl", {"id": 1, **ERROR})
    sink, _ = results.open_again(out, {(False, 1): 1, (False, 2): 2}, source)
    with sink:
        result = run_batch(runner, address, source, more)
        assert result.exit_code == 2
        assert "another batch is writing to" in result.stderr
    assert service.tasks == []
    assert run_batch(runner, address, source, more).exit_code == 0


@pytest.mark.parametrize("out", ["/dev/full", "none/out.jsonl", "."])
def test_results_that_cannot_be_written_end_the_batch(
    runner: CliRunner, address: str, picture: Path, out: str
) -> None:
    source = write(picture.parent / "in.jsonl", *map(request, range(20)))
    result = run_batch(runner, address, source, out=out)
    assert result.exit_code == (1 if out == "/dev/full" else 2)
    assert "error" in result.stderr.lower()
    assert isinstance(result.exception, SystemExit)


def test_an_answer_that_json_cannot_hold_is_an_error_line(
    runner: CliRunner, address: str, picture: Path, service: StandIn
) -> None:
    service.scores = [math.nan, math.inf, 0.5]
    source = write(picture.parent / "in.jsonl", *map(request, range(3)))
    result = run_batch(runner, address, source, "--concurrency", "1")
    assert result.exit_code == 1
    first, second, third = read(picture.parent / "out.jsonl")
    for line in (first, second):
        assert line["error"]["code"] == "INTERNAL"
        assert "not finite" in line["error"]["message"]
    assert third["instances"][0]["score"] == 0.5


def test_no_requests_are_no_fault(runner: CliRunner, address: str, picture: Path) -> None:
    for content in ("", "\n\n", "\ufeff"):
        source = picture.parent / "in.jsonl"
        source.write_text(content)
        result = run_batch(runner, address, source)
        assert result.exit_code == 0
        assert "0 answered" in result.stderr


def test_nobody_at_the_address_ends_with_3(
    runner: CliRunner, address: str, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.cli.batch._RETRY", RetryPolicy(attempts=1))
    source = write(picture.parent / "in.jsonl", request(1), request(2))
    result = run_batch(runner, "127.0.0.1:9", source)
    assert result.exit_code == 3
    codes = {line["error"]["code"] for line in read(picture.parent / "out.jsonl")}
    assert codes == {"UNAVAILABLE"}
    again = run_batch(runner, address, source, "--resume")
    assert again.exit_code == 0
    with_bad = write(picture.parent / "bad.jsonl", request(1), "not json")
    mixed = run_batch(runner, "127.0.0.1:9", with_bad, out="other.jsonl")
    assert mixed.exit_code == 1
