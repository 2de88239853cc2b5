"""The evaluator of clips against a service that knows the truth: what is planted is found."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from limelight.masks import encode_rle
from limelight.v1 import media_pb2, models_pb2, plan_pb2, video_pb2
from services.errors import InvalidMedia, Reason
from services.rpc.status import code_of, rich_status, trailing_metadata
from tests.client.stand_in import StandIn, serving
from training.evaluation import clips as command
from training.evaluation.clip_questions import ClipQuestionBuilder, ClipQuestionSet
from training.evaluation.clip_report import TOGETHER, ClipReport, answered_strips, measure_clips
from training.evaluation.tracking import figures
from training.evaluation.worlds import World
from training.world.clip_instructions import ClipFamily
from training.world.clips import AnyClip, ClipWorld
from training.world.splits import HELD_OUT, VALIDATION
from training.world.vocabulary import Vocabulary

Response = video_pb2.TrackVideoResponse
_ASK = ClipQuestionBuilder.questions
FRAMES = 14
SEEDS = VALIDATION[:4]


class SmallClips:
    """The world's own clips, small."""

    def clip(
        self, seed: int, *, size: tuple[int, int] | None = None, frame_count: int | None = None
    ) -> AnyClip:
        return ClipWorld().clip(seed, size=size or (160, 120), frame_count=frame_count)


@cache
def questions_of(seed: int) -> ClipQuestionSet:
    return _ASK(ClipQuestionBuilder(Vocabulary.load(), FRAMES, SmallClips()), seed)


class TruthfulTracker(StandIn):
    """Answers phrases and instructions with the true masks, but for its flaws.

    Args:
        sets: what it may be asked.
        swap_at: from this frame on every id is another.
        fails: whether calls fail.
        extra: whether it finds what is absent.
    """

    def __init__(
        self,
        sets: list[ClipQuestionSet],
        swap_at: int = FRAMES,
        fails: bool = False,
        extra: bool = False,
    ) -> None:
        super().__init__()
        self._sets = {asked.content: asked for asked in sets}
        self._swap_at, self._fails, self._extra = swap_at, fails, extra

    def TrackVideo(  # noqa: N802
        self, requests: Iterator[video_pb2.TrackVideoRequest], context: grpc.ServicerContext
    ) -> Iterator[Response]:
        config = next(requests).config
        if self._fails:
            fault = InvalidMedia(Reason.VIDEO_CORRUPT, "broken")
            status = rich_status(fault, "abc")
            context.set_trailing_metadata(trailing_metadata(status))
            context.abort(code_of(fault), status.message)
        yield Response(started=video_pb2.TrackStarted(request_id="abc", resume_token="t"))
        media = bytearray()
        for request in requests:
            if request.WhichOneof("step") == "media_end":
                break
            media += request.chunk
            yield Response(credits=1)
        asked = self._sets[bytes(media)]
        phrases = [query.phrase for query in config.queries.include]
        yield Response(
            plan=video_pb2.TrackPlan(
                plan=plan_pb2.Plan(outcome=plan_pb2.PLAN_OUTCOME_OK),
                cause=video_pb2.PLAN_CAUSE_START,
            )
        )
        ahead = 0
        for frame in asked.clip.frames():
            while ahead >= config.frame_window:
                ahead -= next(requests).credits
            answer = video_pb2.TrackedFrame(
                frame_index=frame.index, width=frame.size[0], height=frame.size[1]
            )
            for phrase, number in self._answered(asked, phrases):
                mask = frame.masks.get(number)
                if mask is not None:
                    rle = encode_rle(mask)
                    answer.instances.add(
                        object_id=number + (50 if frame.index >= self._swap_at else 0),
                        phrase=phrase,
                        score=0.9,
                        area=int(mask.sum()),
                        box=media_pb2.Box(x1=1, y1=1),
                        mask=media_pb2.Mask(
                            rle=media_pb2.RunLengths(
                                height=rle.size[0], width=rle.size[1], counts=rle.counts
                            )
                        ),
                    )
            yield Response(frame=answer)
            ahead += 1
        model = models_pb2.Model(role="tracker", name="truth", revision="1", engine="test")
        yield Response(summary=video_pb2.TrackSummary(frames=FRAMES, models=[model]))

    def _answered(self, asked: ClipQuestionSet, phrases: list[str]) -> list[tuple[str, int]]:
        if not phrases:
            assert asked.instruction is not None
            return [("", number) for number in sorted(asked.instruction.targets)]
        meant = [(one.phrase, number) for one in asked.phrases for number in sorted(one.targets)]
        if self._extra:
            meant += [(phrases[-1], one.id) for one in asked.clip.objects]
        return meant


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small clips, each encoded once: the service knows them by their bytes."""
    monkeypatch.setattr(World, "clips", property(lambda self: SmallClips()))
    monkeypatch.setattr(ClipQuestionBuilder, "questions", lambda self, seed: questions_of(seed))


@pytest.fixture
def sets() -> list[ClipQuestionSet]:
    return [questions_of(seed) for seed in SEEDS]


async def measured(sets: list[ClipQuestionSet], servicer: TruthfulTracker) -> ClipReport:
    with serving(servicer) as address:
        report, scores = await measure_clips(
            address, World.OWN, "validation", SEEDS, FRAMES, 2, lambda: None
        )
    assert [one.seed for one in scores] == list(SEEDS)
    assert sum(one.wanted for score in scores for one in score.phrases) == report.phrases.wanted
    return report


def test_questions_are_the_seeds_own_and_cover_the_clip(sets: list[ClipQuestionSet]) -> None:
    for asked in sets:
        again = questions_of.__wrapped__(asked.seed)
        assert (again.phrases, again.instruction) == (asked.phrases, asked.instruction)
        *there, absent = asked.phrases
        assert not absent.targets
        covered = [number for one in there for number in one.targets]
        assert sorted(covered) == [one.id for one in asked.clip.objects]
        assert len({one.phrase for one in asked.phrases}) == len(asked.phrases)
    families = {asked.instruction.family for asked in sets if asked.instruction}
    assert len(families) > 1
    assert families <= set(ClipFamily)


async def test_the_truth_has_perfect_figures(sets: list[ClipQuestionSet]) -> None:
    report = await measured(sets, TruthfulTracker(sets))
    found = report.phrases
    assert found.hota == found.idf1 == found.mean_iou == pytest.approx(1.0)
    assert (found.switches, found.clips) == (0.0, len(SEEDS))
    assert report.families[TOGETHER].right == 1.0
    assert report.families[TOGETHER].asked == sum(one.instruction is not None for one in sets)
    assert (report.errors, report.models[0].name) == ({}, "truth")


async def test_other_ids_from_a_frame_on_are_switches(sets: list[ClipQuestionSet]) -> None:
    report = await measured(sets, TruthfulTracker(sets, swap_at=FRAMES // 2))
    found = report.phrases
    assert found.switches > 0.5
    assert 0.4 < found.idf1 < 0.8
    assert found.mean_iou == pytest.approx(1.0)
    assert report.families[TOGETHER].right == 1.0  # whatever the ids


async def test_what_is_absent_must_not_be_found(sets: list[ClipQuestionSet]) -> None:
    report = await measured(sets, TruthfulTracker(sets, extra=True))
    assert report.phrases.det_a < 0.8
    assert report.phrases.mean_iou == pytest.approx(1.0)


async def test_calls_that_fail_answer_nothing(sets: list[ClipQuestionSet]) -> None:
    report = await measured(sets, TruthfulTracker(sets, fails=True))
    assert report.phrases.idf1 == report.phrases.mean_iou == 0.0
    calls = len(sets) + sum(one.instruction is not None for one in sets)
    assert report.errors == {"VIDEO_CORRUPT": calls}
    assert report.families[TOGETHER].right == 0.0


async def test_worst_clips_are_drawn_beside_the_truth(sets: list[ClipQuestionSet]) -> None:
    with serving(TruthfulTracker(sets)) as address:
        truth, answer = await answered_strips(address, World.OWN, FRAMES, [SEEDS[0]])
    assert np.array_equal(truth, answer)


def test_the_command_writes_figures_and_sheets_and_holds_bounds(tmp_path: Path) -> None:
    sets = [questions_of(seed) for seed in HELD_OUT[:2]]
    with serving(TruthfulTracker(sets, swap_at=FRAMES // 2)) as address:
        app = command.typer.Typer()
        app.command()(command.main)
        run = partial(CliRunner().invoke, app)
        given = ["--world", "own", "--clips", "2", "--frames", str(FRAMES), "--address", address]
        files = ["--json", str(tmp_path / "a" / "f.json"), "--sheet", str(tmp_path / "s.png")]
        done = run([*given, *files, "--min-iou", "0.9", "--max-switches", "0.1"])
    assert done.exit_code == 1
    assert "own world: identity switches a clip are" in done.stderr
    assert "mean IoU is" not in done.stderr
    assert f"own world, 2 clips of {FRAMES} frames, held-out seeds 10000000 to" in done.stdout
    report = json.loads((tmp_path / "a" / "f.json").read_text())["worlds"]["own"]
    assert report["phrases"]["mean_iou"] == pytest.approx(1.0)
    assert report["families"][TOGETHER]["asked"] > 0
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width > 500


def test_figures_of_many_questions_are_per_clip() -> None:
    from tests.training.evaluation.tracked import random_frames
    from training.evaluation.tracking import score

    scores = [score(random_frames(seed)) for seed in range(4)]
    halved, each = asdict(figures(scores, clips=2)), asdict(figures(scores))
    assert halved.pop("switches") == 2 * each.pop("switches")
    assert (halved.pop("clips"), each.pop("clips")) == (2, 4)
    assert halved == each
