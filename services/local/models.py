"""Which checkpoints and engines a stack runs: named choices made into settings of the services."""

from enum import StrEnum
from pathlib import Path

from services.errors import CheckpointError
from services.local.state import StackConfig
from services.replica.checkpoints import GEMMA4, SAM3, SAM3_VIDEO, Architecture, inspect, is_hub_id


class CheckpointProfile(StrEnum):
    """A set of checkpoints: the ones that ship with Limelight, or the full-size ones."""

    TINY = "tiny"
    FULL = "full"


class StackEngine(StrEnum):
    """The engines that a stack can give the model services."""

    TRANSFORMERS = "transformers"
    FAKE = "fake"


# What each service's checkpoint must be.
_ARCHITECTURES = {"planner": GEMMA4, "segmenter": SAM3, "tracker": SAM3_VIDEO}

# The tiny checkpoints are the services' own defaults.
_MODELS = {
    CheckpointProfile.TINY: {"planner": "", "segmenter": "", "tracker": ""},
    CheckpointProfile.FULL: {
        "planner": "google/gemma-4-E4B-it",
        "segmenter": "facebook/sam3",
        "tracker": "facebook/sam3",
    },
}


def stack_config(
    name: str,
    profile: CheckpointProfile = CheckpointProfile.TINY,
    *,
    planner_model: str | None = None,
    segmenter_model: str | None = None,
    tracker_model: str | None = None,
    engine: StackEngine | None = None,
) -> StackConfig:
    """The configuration of a stack on its preferred ports.

    Args:
        name: of the stack.
        profile: the checkpoints to run where no model is given.
        planner_model, segmenter_model, tracker_model: a checkpoint's folder or hub id.
        engine: of all services; None leaves it to their settings.

    Raises:
        CheckpointError: a model is a path at which there is no checkpoint of its architecture, by
            the headers of its files.
    """
    return StackConfig(
        name=name,
        profile=profile.value,
        planner=_arguments(profile, "planner", planner_model, engine),
        segmenter=_arguments(profile, "segmenter", segmenter_model, engine),
        tracker=_tracker(profile, segmenter_model, tracker_model, engine),
    )


def _tracker(
    profile: CheckpointProfile,
    segmenter_model: str | None,
    model: str | None,
    engine: StackEngine | None,
) -> dict[str, str] | None:
    """The tracker's arguments; None where nothing says what it would track with.

    Beside a segmenter of one's own, the tiny tracker would see another world.
    """
    tiny = profile is CheckpointProfile.TINY and engine is not StackEngine.FAKE
    if tiny and segmenter_model is not None and model is None:
        return None
    return _arguments(profile, "tracker", model, engine)


def _arguments(
    profile: CheckpointProfile, service: str, model: str | None, engine: StackEngine | None
) -> dict[str, str]:
    """The arguments of a service's `build`; what is left out is the service's own setting."""
    arguments = {}
    if model is not None:
        judged = None if engine is StackEngine.FAKE else _ARCHITECTURES[service]
        arguments["model"] = _checkpoint(model, judged)
    elif named := _MODELS[profile].get(service):
        arguments["model"] = named
    if engine is not None:
        arguments["engine"] = engine.value
    return arguments


def _checkpoint(model: str, architecture: Architecture | None) -> str:
    """A folder, made absolute since replicas run elsewhere, or else a hub id as it is."""
    path = Path(model).expanduser()
    if path.exists():
        if architecture is not None:
            # Now, and not after Ray's start and the imports of torch and transformers.
            inspect(path, architecture)
        return str(path.resolve())
    if not is_hub_id(model):
        raise CheckpointError(f"there is no checkpoint at {model}, and it is not a hub id")
    return model
