from loadtest.metrics import Counts
from loadtest.scenarios import _batches, _cache_hits, _stages

COUNTED: Counts = {
    ("limelight_batch_size_count", "segmenter", "encode"): 4.0,
    ("limelight_queue_seconds_count", "segmenter", "encode"): 14.0,
    # The planner's batches are not the segmenter's.
    ("limelight_batch_size_count", "planner", "generate"): 9.0,
    ("limelight_cache_hits_total", "segmenter", "text"): 3.0,
    ("limelight_cache_misses_total", "segmenter", "text"): 1.0,
    ("limelight_images_total", "", ""): 10.0,
    ("limelight_stage_seconds_sum", "", "select"): 0.5,
    ("limelight_stage_seconds_count", "", "select"): 20.0,
}


def test_a_batch_is_the_items_over_the_steps() -> None:
    (batch,) = _batches(COUNTED)
    assert (batch.stage, batch.steps, batch.items) == ("encode", 4.0, 3.5)


def test_cache_hits_are_of_all_looks() -> None:
    assert _cache_hits(COUNTED) == {"text": (3.0, 4.0)}


def test_a_stage_that_runs_twice_is_timed_for_the_answer() -> None:
    assert _stages(COUNTED) == {"select": 50.0}


def test_nothing_counted_is_nothing_known() -> None:
    assert _batches({}) == ()
    assert _cache_hits({}) == {}
    assert _stages({}) == {}
