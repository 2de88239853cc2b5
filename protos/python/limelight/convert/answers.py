"""What every answer carries: models, timings, outcomes of queries."""

from collections.abc import Iterable, Mapping

from limelight.v1 import limelight_pb2, models_pb2
from limelight.values import ModelInfo, QueryOutcome


def model_to_proto(model: ModelInfo) -> models_pb2.Model:
    return models_pb2.Model(
        role=model.role, name=model.name, revision=model.revision, engine=model.engine
    )


def model_from_proto(model: models_pb2.Model) -> ModelInfo:
    return ModelInfo(model.role, model.name, model.revision, model.engine)


def timings_to_proto(timings_ms: Mapping[str, float]) -> list[models_pb2.StageTiming]:
    return [
        models_pb2.StageTiming(stage=stage, milliseconds=value)
        for stage, value in timings_ms.items()
    ]


def timings_from_proto(timings: Iterable[models_pb2.StageTiming]) -> dict[str, float]:
    return {timing.stage: timing.milliseconds for timing in timings}


def outcome_to_proto(outcome: QueryOutcome) -> limelight_pb2.QueryOutcome:
    return limelight_pb2.QueryOutcome(
        phrase=outcome.phrase, presence=outcome.presence, found=outcome.found
    )


def outcome_from_proto(outcome: limelight_pb2.QueryOutcome) -> QueryOutcome:
    return QueryOutcome(outcome.phrase, outcome.presence, outcome.found)
