"""What a hostile request costs, beside a clean picture of the pixels that it declares."""

import time
from dataclasses import dataclass
from functools import cache

from services.codecs.images import DEFAULT_LIMITS, ImageLimits
from services.errors import ServiceError
from services.gateway import rendering
from services.gateway.request_fields import IMAGE, background
from tests.fuzz.requests import HostileRequest, clean, kinds


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor seconds of all that the gateway does to a request's images, and how it ended."""

    outcome: str
    cpu_s: float
    pixels: int


def spent(request: HostileRequest, limits: ImageLimits = DEFAULT_LIMITS) -> Cost:
    """Read the headers, mend what may be mended, decode and draw, as the gateway would.

    Raises whatever a worker must never raise.
    """
    begin = time.process_time()
    pixels = 0
    try:
        header = rendering.read_header(request.image, limits, IMAGE, request.accept_damaged)
        pixels = header.width * header.height
        image = request.image
        if request.background is not None:
            behind = rendering.read_header(request.background, limits, background(0), False)
            pixels += behind.width * behind.height
            rendering.decode(request.background, limits, background(0))
        if request.accept_damaged:
            mended = rendering.mended_image(image, limits, IMAGE)
            image = mended.content if mended else image
        rendering.decode(image, limits, IMAGE)
        outcome = "taken"
    except ServiceError as error:
        outcome = error.reason.value
    return Cost(outcome, time.process_time() - begin, pixels)


@cache
def clean_cpu_s() -> float:
    """Processor seconds a megapixel of the dearest format, for a clean picture that is mended."""
    dearest = 0.0
    for kind in kinds():
        data = clean(kind, 2, False)
        cost = spent(HostileRequest(0, kind, data, True, None))
        dearest = max(dearest, cost.cpu_s / cost.pixels * 1e6)
    return dearest


def excess_s(cost: Cost) -> float:
    """What a request took beyond a clean picture of its size."""
    return cost.cpu_s - clean_cpu_s() * cost.pixels / 1e6
