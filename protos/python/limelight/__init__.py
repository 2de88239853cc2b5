"""Limelight's Python client: say what you want in plain words, get exact masks.

    from limelight import Client

    with Client("localhost:50551") as client:
        answer = client.segment("street.jpg", "the second dog from the left")
        for instance in answer.instances:
            print(instance.label, instance.score, instance.box, instance.mask.sum())

`Client` blocks, `AsyncClient` awaits; both answer with a `Segmentation` and fail with a
`LimelightError`. Masks are decoded when they are first looked at. The messages of the contract
itself are in `limelight.v1`.
"""

from limelight.channels import RetryPolicy
from limelight.client import AsyncClient, Client
from limelight.errors import LimelightError
from limelight.results import (
    CandidatesFound,
    CandidateVerdict,
    Done,
    Event,
    Instance,
    PlanMade,
    QueryOutcome,
    Rendering,
    Segmentation,
)
from limelight.tasks import Render
from services.domain import Box, ConceptQuery, Exemplar, ModelInfo, Plan, SelectBy, Selection

__all__ = [
    "AsyncClient",
    "Box",
    "CandidateVerdict",
    "CandidatesFound",
    "Client",
    "ConceptQuery",
    "Done",
    "Event",
    "Exemplar",
    "Instance",
    "LimelightError",
    "ModelInfo",
    "Plan",
    "PlanMade",
    "QueryOutcome",
    "Render",
    "Rendering",
    "RetryPolicy",
    "Segmentation",
    "SelectBy",
    "Selection",
]
