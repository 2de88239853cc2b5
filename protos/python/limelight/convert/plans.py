"""Queries, selections and plans: `limelight/v1/plan.proto`."""

from collections.abc import Iterable

from limelight.convert.enums import PLAN_OUTCOME, SELECT_BY
from limelight.convert.media import box_from_proto, box_to_proto
from limelight.paths import FieldPath
from limelight.v1 import plan_pb2
from limelight.values import ConceptQuery, Exemplar, Plan, PlanOutcome, Selection


def query_to_proto(query: ConceptQuery) -> plan_pb2.ConceptQuery:
    exemplars = [
        plan_pb2.Exemplar(box=box_to_proto(item.box), negative=not item.positive)
        for item in query.exemplars
    ]
    return plan_pb2.ConceptQuery(phrase=query.phrase, exemplars=exemplars)


def queries_from_proto(queries: Iterable[plan_pb2.ConceptQuery]) -> tuple[ConceptQuery, ...]:
    return tuple(
        ConceptQuery(
            query.phrase,
            tuple(Exemplar(box_from_proto(e.box), not e.negative) for e in query.exemplars),
        )
        for query in queries
    )


def selection_to_proto(selection: Selection) -> plan_pb2.Selection:
    return plan_pb2.Selection(
        by=SELECT_BY.to_proto(selection.by), rank=selection.rank, count=selection.count
    )


def selection_from_proto(selection: plan_pb2.Selection, path: FieldPath) -> Selection:
    """An unset rank or count is 1. Raises `InvalidRequest` for an unknown order."""
    by = SELECT_BY.from_proto(selection.by, path / "by")
    return Selection(by, selection.rank or 1, selection.count or 1)


def plan_to_proto(plan: Plan) -> plan_pb2.Plan:
    return plan_pb2.Plan(
        include=[query_to_proto(query) for query in plan.include],
        exclude=[query_to_proto(query) for query in plan.exclude],
        select=None if plan.select is None else selection_to_proto(plan.select),
        review=plan.review,
        reason=plan.reason,
        outcome=PLAN_OUTCOME.to_proto(plan.outcome),
    )


def plan_from_proto(plan: plan_pb2.Plan) -> Plan:
    """Raises `InvalidRequest` for an order of selection that only a newer peer knows."""
    select = None
    if plan.HasField("select"):
        select = selection_from_proto(plan.select, FieldPath(("plan", "select")))
    return Plan(
        include=queries_from_proto(plan.include),
        exclude=queries_from_proto(plan.exclude),
        select=select,
        review=plan.review,
        reason=plan.reason,
        outcome=PLAN_OUTCOME.from_newer(plan.outcome, PlanOutcome.OK),
    )
