"""Limelight's Python client: say what you want in plain words, get exact masks.

    from limelight import Client

    with Client("localhost:50551") as client:
        answer = client.segment("street.jpg", "the second dog from the left")
        for instance in answer.instances:
            print(instance.label, instance.score, instance.box, instance.mask.sum())

`Client` blocks, `AsyncClient` awaits; both answer with a `Segmentation`, or with the events of a
tracked video (`track`), and fail with a `LimelightError`. Masks are decoded when they are first
looked at. The messages of the contract itself are in `limelight.v1`.

The services build on the same package (`values`, `validation`, `convert`, `masks`). Names load
when first used, so that code without a network does not import gRPC.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limelight.client import AsyncClient, Client
    from limelight.errors import ClientStateError, LimelightError
    from limelight.results import (
        CandidatesFound,
        CandidateVerdict,
        Done,
        Event,
        Instance,
        PlanMade,
        Rendering,
        Segmentation,
    )
    from limelight.retries import RetryPolicy
    from limelight.streams import AsyncTracking, Tracking
    from limelight.tasks import Render
    from limelight.tracks import (
        FramesDropped,
        Masklet,
        TrackedFrame,
        TrackedInstance,
        TrackingEvent,
        TrackPlanned,
        TrackProgress,
        TrackStarted,
        TrackSummary,
    )
    from limelight.values import (
        AddQuery,
        Box,
        ConceptQuery,
        DropPhrase,
        Exemplar,
        ModelInfo,
        ObjectPrompt,
        Plan,
        PlanCause,
        PlanOutcome,
        Point,
        PromptChange,
        QueryOutcome,
        RemoveObject,
        SelectBy,
        Selection,
        SetObject,
        TimeRange,
        VerdictKind,
    )
    from limelight.videos import LivePicture

_HOMES = {
    "retries": ("RetryPolicy",),
    "client": ("AsyncClient", "Client"),
    "errors": ("ClientStateError", "LimelightError"),
    "results": (
        "CandidateVerdict",
        "CandidatesFound",
        "Done",
        "Event",
        "Instance",
        "PlanMade",
        "Rendering",
        "Segmentation",
    ),
    "streams": ("AsyncTracking", "Tracking"),
    "tasks": ("Render",),
    "tracks": (
        "FramesDropped",
        "Masklet",
        "TrackPlanned",
        "TrackProgress",
        "TrackStarted",
        "TrackSummary",
        "TrackedFrame",
        "TrackedInstance",
        "TrackingEvent",
    ),
    "values": (
        "AddQuery",
        "Box",
        "ConceptQuery",
        "DropPhrase",
        "Exemplar",
        "ModelInfo",
        "ObjectPrompt",
        "Plan",
        "PlanCause",
        "PlanOutcome",
        "Point",
        "PromptChange",
        "QueryOutcome",
        "RemoveObject",
        "SelectBy",
        "Selection",
        "SetObject",
        "TimeRange",
        "VerdictKind",
    ),
    "videos": ("LivePicture",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AddQuery",
    "AsyncClient",
    "AsyncTracking",
    "Box",
    "CandidateVerdict",
    "CandidatesFound",
    "Client",
    "ClientStateError",
    "ConceptQuery",
    "Done",
    "DropPhrase",
    "Event",
    "Exemplar",
    "FramesDropped",
    "Instance",
    "LimelightError",
    "LivePicture",
    "Masklet",
    "ModelInfo",
    "ObjectPrompt",
    "Plan",
    "PlanCause",
    "PlanMade",
    "PlanOutcome",
    "Point",
    "PromptChange",
    "QueryOutcome",
    "RemoveObject",
    "Render",
    "Rendering",
    "RetryPolicy",
    "Segmentation",
    "SelectBy",
    "Selection",
    "SetObject",
    "TimeRange",
    "TrackPlanned",
    "TrackProgress",
    "TrackStarted",
    "TrackSummary",
    "TrackedFrame",
    "TrackedInstance",
    "Tracking",
    "TrackingEvent",
    "VerdictKind",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value  # next time it is found without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
