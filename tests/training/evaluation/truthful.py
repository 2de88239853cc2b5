"""A public service that knows the truth of some question sets, and errs on purpose.

It stands where the gateway does, so the evaluator's whole way is run without a model.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from limelight.convert.media import rle_to_proto
from limelight.convert.plans import plan_to_proto, queries_from_proto, selection_from_proto
from limelight.paths import FieldPath
from limelight.v1 import limelight_pb2, limelight_pb2_grpc, media_pb2, models_pb2
from limelight.values import RLE, Plan, PlanOutcome
from training.evaluation.questions import QuestionSet
from training.world.execution import execute
from training.world.phrases import PhraseBook

Masks = list[RLE]


@dataclass
class Truthful(limelight_pb2_grpc.LimelightServiceServicer):
    """Answers rightly, but for what is spoiled.

    Attributes:
        sets: what it knows.
        book: what phrases mean.
        spoil: what becomes of an answer's masks.
        hidden: whether "don't care" instances are answered, too.
        invent: whether a phrase of nothing that is there is answered with the first instance.
        score: of every instance.
        deaf: whether negative boxes change nothing.
        lie: whether the presence told is the opposite of the true one.
        plan: what becomes of a plan (the masks stay those of the right one).
        fail: the status of every call whose number is a multiple of `fail_every`.
    """

    sets: Iterable[QuestionSet]
    book: PhraseBook
    spoil: Callable[[Masks], Masks] = list
    hidden: bool = False
    invent: bool = False
    score: float = 1.0
    deaf: bool = False
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
        asked = next(asked for asked in self.sets if asked.content == task.image.content)
        if task.WhichOneof("want") == "instruction":
            question = next(
                question
                for question in asked.instructions
                if question.instruction.text == task.instruction
            )
            found, plan = set(question.instruction.truth), self.plan(question.instruction.plan)
            hidden = set(question.dont_care)
            presence = 1.0
        else:
            include = queries_from_proto(task.queries.include)
            exclude = queries_from_proto(task.queries.exclude)
            concepts = {i for query in include for i in self.book.matching_concepts(query.phrase)}
            concepts -= {i for query in exclude for i in self.book.matching_concepts(query.phrase)}
            negated = {
                (e.box.x0, e.box.y0, e.box.x1, e.box.y1)
                for e in include[0].exemplars
                if not e.positive
            }
            if not include[0].phrase:
                box = include[0].exemplars[0].box
                (concept,) = {
                    instance.concept.index
                    for instance in asked.scene.instances
                    if instance.box == (box.x0, box.y0, box.x1, box.y1)
                }
                concepts = {concept}
            plan = Plan(include, exclude, outcome=PlanOutcome.EXPLICIT)
            if task.queries.HasField("select"):
                chosen = Plan(
                    plan.include,
                    plan.exclude,
                    selection_from_proto(task.queries.select, FieldPath()),
                )
                found = set(execute(chosen, asked.scene, self.book))
                hidden = set()
            else:
                shown = dict(enumerate(asked.scene.instances))
                meant = {i for i, one in shown.items() if one.concept.index in concepts}
                found = {i for i in meant if not shown[i].dont_care}
                hidden = meant - found
                if not self.deaf:
                    found = {i for i in found if shown[i].box not in negated}
                if self.invent and not meant:
                    found = {0}
            presence = float(bool(found))
        if self.lie:
            presence = 1.0 - presence
        indices = sorted(found | hidden if self.hidden else found, reverse=True)
        masks = self.spoil(asked.truth(indices))
        width, height = asked.scene.size
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
                models=[models_pb2.Model(role="segmenter", name="truth", revision="1")],
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
