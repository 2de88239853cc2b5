"""The plan cache: bounded in bytes and time."""

from limelight.values import ConceptQuery, Plan
from services.planner.cache import PlanCache, PlanKey
from services.planner.metrics import RecordedPlannerMetrics


def key(number: int) -> PlanKey:
    return PlanKey(f"image-{number}", "the dog", "r1")


PLAN = Plan((ConceptQuery("dog"),))


def test_a_plan_is_found_again_by_all_of_its_key() -> None:
    cache = PlanCache(1 << 20, 60, RecordedPlannerMetrics())
    cache.put(key(1), PLAN)
    assert cache.get(key(1)) == PLAN
    assert cache.get(key(1)._replace(revision="r2")) is None
    assert cache.get(key(1)._replace(instruction="the cat")) is None
    assert cache.get(key(2)) is None


def test_the_least_used_plans_make_room() -> None:
    metrics = RecordedPlannerMetrics()
    cache = PlanCache(4000, 60, metrics)
    for number in range(3):
        cache.put(key(number), PLAN)
    cache.get(key(0))
    cache.put(key(3), PLAN)
    assert [cache.get(key(number)) is not None for number in range(4)] == [True, False, True, True]
    assert cache.nbytes <= 4000
    assert metrics.gauges["cache_bytes", "plan"] == cache.nbytes


def test_long_texts_count() -> None:
    cache = PlanCache(4000, 60, RecordedPlannerMetrics())
    cache.put(key(1), Plan((ConceptQuery("dog"),), reason="x" * 4000))
    assert cache.get(key(1)) is None
    assert cache.nbytes == 0


def test_putting_a_plan_again_replaces_it() -> None:
    cache = PlanCache(1 << 20, 60, RecordedPlannerMetrics())
    cache.put(key(1), PLAN)
    once = cache.nbytes
    cache.put(key(1), Plan((ConceptQuery("cat"),)))
    assert cache.nbytes == once
    assert cache.get(key(1)) == Plan((ConceptQuery("cat"),))


def test_no_memory_means_no_cache() -> None:
    cache = PlanCache(0, 60, RecordedPlannerMetrics())
    cache.put(key(1), PLAN)
    assert cache.get(key(1)) is None
