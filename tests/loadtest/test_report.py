import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from limelight import ModelInfo
from loadtest.baseline import PlainRun
from loadtest.report import Report, markdown, show
from loadtest.scenarios import (
    BatchFigures,
    LatencyFigures,
    LoadFigures,
    PhraseFigures,
    Scenarios,
)


def load(callers: int, throughput: float) -> LoadFigures:
    return LoadFigures(
        name=f"{callers} callers",
        callers=callers,
        calls=10,
        throughput=throughput,
        p50_ms=10.0,
        p95_ms=20.0,
        p99_ms=30.0,
        instances=1.5,
        errors={"OVERLOADED": 2} if callers == 16 else {},
        stages_ms={"encode": 5.0, "total": 9.0},
        cpu_ms={"gateway": 1.0, "segmenter replica": 12.0},
        cores=1.9,
    )


@pytest.fixture
def report() -> Report:
    service = Scenarios(
        loads=(load(1, 10.0), load(4, 20.0), load(16, 24.0)),
        phrases=(PhraseFigures(1, 50, 50, 50, 20), PhraseFigures(16, 200, 800, 400, 90)),
        pictures=(LatencyFigures("new picture", 4, 50.0, 60.0, {"segment": 40.0}),),
        instructions=(LatencyFigures("new", 4, 90.0, 95.0, {"plan": 30.0}),),
        outcomes={"ok": 4},
        batches=(BatchFigures("encode", 20.0, 3.5),),
        cache_hits={"image": (5.0, 20.0)},
        gateway_stages_ms={"total": 11.0},
        digests=("a", "b"),
        models=(ModelInfo("segmenter", "tiny", "abc", "transformers"),),
    )
    run = PlainRun(1, 60, 2.0, 1.9, {"decode": 2.0}, ("a", "c"))
    runs = (run, replace(run, threads=2, pictures=200), replace(run, pictures=100))
    return Report("today", "x86", "python -m loadtest", 2, 0.0, 1, service, runs)


def text_of(report: Report) -> str:
    console = Console(record=True, width=200, file=io.StringIO())
    show(report, console)
    return console.export_text()


def test_ratios_are_to_the_loops_with_as_many_threads(report: Report) -> None:
    assert report.plain(1) == 40.0
    assert report.to_dict()["ratios"]["16 callers"] == pytest.approx(0.6)


def test_goals_are_said_to_be_met_or_not(report: Report) -> None:
    text = text_of(report)
    assert "16 callers: 0.60, goal at least 0.7: not met" in text
    assert "16 phrases together: 0.25, goal at most 0.6: met" in text
    assert "for 1 of 2 pictures" in text
    assert "OVERLOADED" in text
    assert "16 callers keep 1.9 of 2 cores busy, 92% of that in the segmenter replica" in text


def test_a_busy_machine_is_said(report: Report) -> None:
    assert "not to be relied on" not in text_of(report)
    assert "not to be relied on" in text_of(replace(report, busy_cores=1.5))


def test_markdown_holds_every_table(report: Report) -> None:
    text = markdown(report)
    for section in report.sections():
        assert f"## {section.title}" in text
        for row in section.rows:
            assert "| " + " | ".join(row) + " |" in text
            assert len(row) == len(section.columns)


def test_the_whole_is_json(report: Report) -> None:
    values = json.loads(json.dumps(report.to_dict()))
    assert values["service"]["batches"][0]["items"] == 3.5


def test_a_service_elsewhere_has_no_processes(report: Report) -> None:
    service = replace(
        report.service, loads=tuple(replace(one, cpu_ms={}) for one in report.service.loads)
    )
    assert "not a stack of our own" in text_of(replace(report, service=service))
