"""Profiles, checkpoints and engines become settings of the services."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.errors import CheckpointError
from services.local.models import CheckpointProfile, StackEngine, stack_config
from services.segmenter.settings import SHIPPED
from tests.odd.checkpoints import changed, copied, prefixed


def test_the_tiny_checkpoints_are_the_services_defaults() -> None:
    config = stack_config("mine")
    assert (config.name, config.profile) == ("mine", "tiny")
    assert config.planner == config.segmenter == config.tracker == {}
    assert list(config.services) == ["planner", "segmenter", "tracker"]


def test_a_tracker_is_there_where_something_says_what_with() -> None:
    alone = stack_config("mine", segmenter_model="someone/sam3")
    assert list(alone.services) == ["planner", "segmenter"]
    named = stack_config("mine", tracker_model="someone/sam3-video")
    assert named.services["tracker"] == {"model": "someone/sam3-video"}
    assert stack_config("mine", engine=StackEngine.FAKE).services["tracker"] == {"engine": "fake"}
    full = stack_config("mine", CheckpointProfile.FULL)
    assert full.services["tracker"] == {"model": "facebook/sam3"}
    with pytest.raises(CheckpointError, match=r"model_type 'sam3'.*that tracks"):
        stack_config("mine", tracker_model=str(SHIPPED))


def test_the_full_profile_names_both_models() -> None:
    config = stack_config("mine", CheckpointProfile.FULL)
    assert config.profile == "full"
    assert config.planner == {"model": "google/gemma-4-E4B-it"}
    assert config.segmenter == config.tracker == {"model": "facebook/sam3"}


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
        tracker_model="c/d",
        engine=StackEngine.FAKE,
    )
    assert config.planner == {"model": "a/b", "engine": "fake"}
    assert config.segmenter == {"model": str(tmp_path / "mine"), "engine": "fake"}
    assert config.tracker == {"model": "c/d", "engine": "fake"}


@pytest.mark.parametrize(
    "path", ["./no/such", "/no/such", "~/no-such", "runs/mine/export", "a--b/c"]
)
def test_a_path_at_which_nothing_exists_is_refused(path: str) -> None:
    with pytest.raises(CheckpointError, match=f"there is no checkpoint at {path}, and it is not a"):
        stack_config("mine", planner_model=path)


def test_a_checkpoint_is_judged_before_anything_is_started(tmp_path: Path) -> None:
    """By its headers, without torch."""
    kept = str(copied(tmp_path))
    assert stack_config("mine", segmenter_model=kept).segmenter == {"model": kept}
    with pytest.raises(CheckpointError, match=r"config\.json describes a SAM 3"):
        stack_config("mine", planner_model=kept)
    odd = tmp_path / "odd"
    odd.mkdir()
    with pytest.raises(CheckpointError, match=r"has no config\.json: it is empty"):
        stack_config("mine", segmenter_model=str(odd))
    with pytest.raises(CheckpointError, match=r"every one of its 432 names starts with 'module\.'"):
        stack_config("mine", segmenter_model=changed(prefixed("module."), odd))
    program = (
        "import sys\nfrom services.errors import CheckpointError\n"
        "from services.local.models import stack_config\n"
        "try:\n    stack_config('mine', planner_model=sys.argv[1])\n"
        "except CheckpointError:\n    print('torch' in sys.modules, 'ray' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, kept], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]
