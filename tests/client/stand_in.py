"""A small real gRPC server that answers `LimelightService` as a test tells it to."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from limelight import png
from limelight.masks import encode_rle, to_polygons
from limelight.v1 import (
    limelight_pb2,
    limelight_pb2_grpc,
    media_pb2,
    models_pb2,
    plan_pb2,
    review_pb2,
)
from services.errors import ServiceError
from services.rpc.status import code_of, rich_status, trailing_metadata

SIZE = (20, 30)


def mask(seed: int = 0) -> np.ndarray:
    """A ragged mask with holes, bool `SIZE`."""
    return np.random.default_rng(seed).random(SIZE) < 0.4


class StandIn(limelight_pb2_grpc.LimelightServiceServicer):
    """Answers every task with two instances, unless `faults` says otherwise.

    `faults` are taken one a call, from the front; None is no fault. `gate`, if there
    is one, is waited on; a call that ends before it opens was `cancelled`. `scores` are
    those of the first instance, one a call, in place of 0.9.
    """

    def __init__(self) -> None:
        self.tasks: list[limelight_pb2.SegmentTask] = []
        self.metadata: list[dict[str, str]] = []
        self.faults: list[ServiceError | tuple[grpc.StatusCode, str] | None] = []
        self.scores: list[float] = []
        self.gate: threading.Event | None = None
        self.called = threading.Event()
        self.cancelled = threading.Event()
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    def Segment(  # noqa: N802
        self, request: limelight_pb2.SegmentRequest, context: grpc.ServicerContext
    ) -> limelight_pb2.SegmentResponse:
        with self._counted():
            request_id = self._begin(request.task, context)
            self._wait(context)
            result = answer(request.task, request_id)
            with self._lock:
                if self.scores:
                    result.instances[0].score = self.scores.pop(0)
            return limelight_pb2.SegmentResponse(result=result)

    def SegmentStream(  # noqa: N802
        self, request: limelight_pb2.SegmentStreamRequest, context: grpc.ServicerContext
    ) -> Iterator[limelight_pb2.SegmentStreamResponse]:
        request_id = self._begin(request.task, context)
        result = answer(request.task, request_id)
        event = limelight_pb2.SegmentStreamResponse
        yield event(plan=limelight_pb2.PlanEvent(request_id=request_id, plan=result.plan))
        yield event(
            candidates=limelight_pb2.CandidatesEvent(
                instances=result.instances, queries=result.queries
            )
        )
        yield event(
            verdict=limelight_pb2.VerdictEvent(
                id=2, verdict=review_pb2.VERDICT_REJECTED, reason="too small"
            )
        )
        self._wait(context)
        yield event(done=result)

    def _begin(self, task: limelight_pb2.SegmentTask, context: grpc.ServicerContext) -> str:
        pairs = dict(context.invocation_metadata())
        request_id: str = pairs["x-request-id"]
        if self.gate is not None:
            context.add_callback(self._ended)
        with self._lock:
            self.tasks.append(task)
            self.metadata.append(pairs)
            fault = self.faults.pop(0) if self.faults else None
        self.called.set()
        if isinstance(fault, ServiceError):
            status = rich_status(fault, request_id)
            context.set_trailing_metadata(trailing_metadata(status))
            context.abort(code_of(fault), status.message)
        elif fault is not None:
            context.abort(*fault)
        return request_id

    def _wait(self, context: grpc.ServicerContext) -> None:
        if self.gate is None:
            return
        while context.is_active() and not self.gate.wait(0.02):
            pass

    def _ended(self) -> None:
        if self.gate is not None and not self.gate.is_set():
            self.cancelled.set()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1


def answer(task: limelight_pb2.SegmentTask, request_id: str) -> limelight_pb2.SegmentResult:
    """Two instances, of `mask(0)` and `mask(1)`, in the format and with the renders asked for."""
    phrases = [query.phrase for query in task.queries.include] or [task.instruction]
    height, width = SIZE
    return limelight_pb2.SegmentResult(
        request_id=request_id,
        width=width,
        height=height,
        plan=plan_pb2.Plan(
            include=[plan_pb2.ConceptQuery(phrase=phrase) for phrase in phrases],
            exclude=[plan_pb2.ConceptQuery(phrase="cat")],
            select=plan_pb2.Selection(by=plan_pb2.SELECT_BY_LEFTMOST, rank=2, count=2),
            reason="because",
            outcome=plan_pb2.PLAN_OUTCOME_OK,
        ),
        instances=[
            limelight_pb2.Instance(
                id=number + 1,
                label=phrases[0],
                phrase=phrases[0],
                score=0.9 - number / 10,
                presence=0.95,
                box=media_pb2.Box(x0=0, y0=0, x1=width, y1=height),
                mask=mask_message(mask(number), task.mask_format),
                area=int(mask(number).sum()),
            )
            for number in range(2)
        ],
        queries=[limelight_pb2.QueryOutcome(phrase=phrases[0], presence=0.95, found=2)],
        summary="Found 2.",
        renderings=[
            limelight_pb2.Rendering(kind=spec.kind, format=spec.format, content=b"picture")
            for spec in task.renders
        ],
        timings=[models_pb2.StageTiming(stage="total", milliseconds=12.5)],
        models=[models_pb2.Model(role="segmenter", name="stand-in", engine="none")],
        warnings=["The image has lost pixels."] if task.image.accept_damaged else [],
    )


@contextmanager
def serving(servicer: StandIn, port: int = 0, share: bool = False) -> Iterator[str]:
    """Run it, with a health service, at a port that others may `share`; its address."""
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", int(share))])
    limelight_pb2_grpc.add_LimelightServiceServicer_to_server(servicer, server)
    well = health.HealthServicer()
    for name in ("", "limelight.v1.LimelightService"):
        well.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(well, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        if servicer.gate is not None:
            servicer.gate.set()
        server.stop(0).wait()


def mask_message(pixels: np.ndarray, kind: media_pb2.MaskFormat) -> media_pb2.Mask | None:
    match kind:
        case media_pb2.MASK_FORMAT_NONE:
            return None
        case media_pb2.MASK_FORMAT_PNG:
            return media_pb2.Mask(png=png.encode_mask(pixels))
        case media_pb2.MASK_FORMAT_POLYGONS:
            polygons = [
                media_pb2.Polygon(coordinates=[side for point in polygon for side in point])
                for polygon in to_polygons(pixels)
            ]
            return media_pb2.Mask(polygons=media_pb2.Polygons(polygons=polygons))
    rle = encode_rle(pixels)
    return media_pb2.Mask(
        rle=media_pb2.RunLengths(height=rle.size[0], width=rle.size[1], counts=rle.counts)
    )
