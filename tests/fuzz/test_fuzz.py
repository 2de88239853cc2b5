"""A short run of `make fuzz`, the same every time: nothing but plain refusals is ever raised."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import targets
from tests.fuzz.cost import spent
from tests.fuzz.mutations import mutated
from tests.fuzz.requests import hostile_requests

RUNS = {"headers": 1500, "codecs": 120, "requests": 300, "metadata": 1000, "plan_calls": 1500}


@pytest.mark.parametrize("name", sorted(targets.FEEDS))
def test_the_corpus_is_refused_or_taken(name: str) -> None:
    kept = targets.kept(name)
    assert kept, "every target has inputs that were worth keeping"
    for data in kept:
        targets.FEEDS[name](data)


@pytest.mark.parametrize("name", sorted(targets.FEEDS))
def test_mutations_of_the_corpus_are_refused_or_taken(name: str) -> None:
    target = targets.targets()[name]
    source = random.Random(name)
    for _ in range(RUNS[name]):
        first, second = source.choice(target.seeds), source.choice(target.seeds)
        target.feed(mutated(first, second, source))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=500)), max_size=4))
def test_any_metadata_is_read(pairs: list[tuple[str, str]]) -> None:
    text = "\0".join(part for pair in pairs for part in pair)
    targets.feed_metadata(text.encode("utf-8", "replace"))


def test_a_time_of_any_length_is_a_time() -> None:
    for digits in (1, 12, 13, 400, 5000):
        targets.feed_metadata(b"x-limelight-timeout-ms\0" + b"9" * digits)


def test_hostile_requests_end_in_plain_words() -> None:
    outcomes = {spent(request).outcome for request in hostile_requests(100, largest=0)}
    assert "IMAGE_CORRUPT" in outcomes
    assert "taken" in outcomes
