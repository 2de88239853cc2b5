"""Profiles, checkpoints and engines become settings of the two services."""

from pathlib import Path

import pytest

from services.local.models import CheckpointMissing, CheckpointProfile, StackEngine, stack_config


def test_the_tiny_checkpoints_are_the_services_defaults() -> None:
    config = stack_config("mine")
    assert (config.name, config.profile) == ("mine", "tiny")
    assert config.planner == config.segmenter == {}


def test_the_full_profile_names_both_models() -> None:
    config = stack_config("mine", CheckpointProfile.FULL)
    assert config.profile == "full"
    assert config.planner == {"model": "google/gemma-4-E4B-it"}
    assert config.segmenter == {"model": "facebook/sam3"}


def test_a_checkpoint_is_a_folder_or_a_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    config = stack_config(
        "mine",
        CheckpointProfile.FULL,
        planner_model="a/b",
        segmenter_model="mine",
        engine=StackEngine.FAKE,
    )
    assert config.planner == {"model": "a/b", "engine": "fake"}
    assert config.segmenter == {"model": str(tmp_path / "mine"), "engine": "fake"}


def test_a_path_at_which_nothing_exists_is_refused() -> None:
    with pytest.raises(CheckpointMissing, match=r"no checkpoint at \./no/such"):
        stack_config("mine", planner_model="./no/such")
