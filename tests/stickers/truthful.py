"""A public service that knows the truth of some papers, and errs on purpose.

It stands where the gateway does, so the evaluator's whole way is run without a model.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from limelight.v1 import limelight_pb2, limelight_pb2_grpc, media_pb2
from services.domain import RLE, Plan, PlanOutcome
from services.rpc.convert import (
    plan_to_proto,
    query_from_proto,
    rle_to_proto,
    selection_from_proto,
)
from services.stickers.evaluation.questions import Paper
from services.stickers.phrases import PhraseBook
from services.stickers.planner.oracle import Oracle

Masks = list[RLE]


@dataclass
class Truthful(limelight_pb2_grpc.LimelightServiceServicer):
    """Answers rightly, but for what is spoilt.

    Attributes:
        papers: what it knows.
        book: what phrases mean.
        spoil: what becomes of an answer's masks.
        hidden: whether "don't care" instances are answered, too.
        invent: whether a phrase of nothing that is there is answered with the first instance.
        score: of every instance.
        lie: whether the presence told is the opposite of the true one.
        plan: what becomes of a plan (the masks stay those of the right one).
        fail: the status of every call whose number is a multiple of `fail_every`.
    """

    papers: Iterable[Paper]
    book: PhraseBook
    spoil: Callable[[Masks], Masks] = list
    hidden: bool = False
    invent: bool = False
    score: float = 1.0
    lie: bool = False
    plan: Callable[[Plan], Plan] = lambda plan: plan
    fail: grpc.StatusCode = grpc.StatusCode.INTERNAL
    fail_every: int = 0
    calls: int = field(default=0, init=False)
    thresholds: list[float] = field(default_factory=list, init=False)

    async def Segment(  # noqa: N802
        self, request: limelight_pb2.SegmentRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> limelight_pb2.SegmentResponse:
        self.calls += 1
        if self.fail_every and self.calls % self.fail_every == 0:
            await context.abort(self.fail, "on purpose")
        task = request.task
        self.thresholds.append(task.score_threshold)
        paper = next(paper for paper in self.papers if paper.content == task.image.content)
        if task.WhichOneof("want") == "instruction":
            asked = next(
                question
                for question in paper.instructions
                if question.instruction.text == task.instruction
            )
            found, plan = set(asked.instruction.truth), self.plan(asked.instruction.plan)
            hidden = set(asked.dont_care)
            presence = 1.0
        else:
            include = [query_from_proto(query, "q") for query in task.queries.include]
            exclude = [query_from_proto(query, "q") for query in task.queries.exclude]
            concepts = {i for query in include for i in self.book.matching_concepts(query.phrase)}
            concepts -= {i for query in exclude for i in self.book.matching_concepts(query.phrase)}
            if include[0].exemplars:
                box = include[0].exemplars[0].box
                (concept,) = {
                    instance.concept.index
                    for instance in paper.scene.instances
                    if instance.box == (box.x0, box.y0, box.x1, box.y1)
                }
                concepts = {concept}
            plan = Plan(tuple(include), tuple(exclude), outcome=PlanOutcome.EXPLICIT)
            if task.queries.HasField("select"):
                chosen = Plan(
                    plan.include, plan.exclude, selection_from_proto(task.queries.select, "s")
                )
                found = set(Oracle(self.book).execute(chosen, paper.scene))
                hidden = set()
            else:
                shown = dict(enumerate(paper.scene.instances))
                meant = {i for i, one in shown.items() if one.concept.index in concepts}
                found = {i for i in meant if not shown[i].dont_care}
                hidden = meant - found
                if self.invent and not meant:
                    found = {0}
            presence = float(bool(found))
        if self.lie:
            presence = 1.0 - presence
        indices = sorted(found | hidden if self.hidden else found, reverse=True)
        masks = self.spoil(paper.truth(indices))
        width, height = paper.scene.size
        return limelight_pb2.SegmentResponse(
            result=limelight_pb2.SegmentResult(
                width=width,
                height=height,
                plan=plan_to_proto(plan),
                queries=[limelight_pb2.QueryOutcome(presence=presence)],
                instances=[
                    limelight_pb2.Instance(
                        id=number, score=self.score, mask=media_pb2.Mask(rle=rle_to_proto(mask))
                    )
                    for number, mask in enumerate(masks, start=1)
                ],
                models=[limelight_pb2.Model(role="segmenter", name="truth", revision="1")],
            )
        )


@asynccontextmanager
async def serving(servicer: Truthful) -> AsyncIterator[str]:
    """The address of a running server."""
    server = grpc.aio.server()
    limelight_pb2_grpc.add_LimelightServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
