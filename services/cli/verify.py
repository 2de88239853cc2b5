"""`limelight verify`: segments a picture whose masks are known, and compares."""

import json
import time
from typing import Annotated

import typer

from limelight import Client, LimelightError, RetryPolicy, Segmentation
from limelight.masks import rle_iou
from limelight.values import RLE
from services.cli import options
from services.cli.connection import resolve
from services.cli.console import Exit, err, fail, fail_call, out
from services.cli.demo import PICTURES

# The picture, with its true masks beside it; `training.world.showpieces` wrote both.
PICTURE = "girl-and-dogs"
# A mask is right from this intersection over union on.
RIGHT_IOU = 0.75
_RETRY_S = 2.0


def verify(
    wait: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            callback=options.finite,
            help="How long to try again while the service is away.",
        ),
    ] = 0.0,
    address: options.Address = None,
    name: options.Name = "default",
    state_dir: options.StateDir = None,
) -> None:
    """Check that a deployment gives the right masks, by a picture whose masks are known.

    Asks once by a phrase, which the segmenter answers alone, and once in plain words, which the
    planner reads. Ends with 0 if all masks are right, 1 if one is not.
    """
    where = resolve(address, state_dir, name)
    dogs = _truth()["dog"]
    until = time.monotonic() + wait
    wrong = 0
    # Who waits is told so, here; the client itself has no patience.
    with Client(where, retry=RetryPolicy(patience=0.0)) as client:
        for what, instruction, phrases, expected in (
            ("phrase", None, ["dog"], dogs),
            ("instruction", "the dog on the left", None, dogs[:1]),
        ):
            answer = _ask(client, where, instruction, phrases, until)
            asked = instruction or "dog"
            found = _ious([instance.rle for instance in answer.instances], expected)
            right = len(answer.instances) == len(expected) and min(found) >= RIGHT_IOU
            wrong += not right
            ious = " ".join(f"{iou:.3f}" for iou in found)
            verdict = "right" if right else "WRONG"
            counts = f"{len(answer.instances)} found, {len(expected)} there"
            out().print(f"{verdict}  {what} {asked!r}: {counts}, IoU {ious}")
    if wrong:
        fail(f"{wrong} of 2 answers are wrong", Exit.FAILED)


def _ask(
    client: Client, where: str, instruction: str | None, phrases: list[str] | None, until: float
) -> Segmentation:
    """The answer, asked for again while the service is away and there is time."""
    while True:
        try:
            if phrases is not None:
                return client.segment(PICTURES / f"{PICTURE}.png", phrases=phrases)
            return client.segment(PICTURES / f"{PICTURE}.png", instruction)
        except LimelightError as error:
            left = until - time.monotonic()
            if left <= 0 or error.code.name not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                fail_call(error, where)
            err().print(f"not yet, {left:.0f} s left: {error}", soft_wrap=True)
            time.sleep(min(_RETRY_S, left))


def _truth() -> dict[str, list[RLE]]:
    """True masks by concept, from left to right."""
    by_concept = json.loads((PICTURES / f"{PICTURE}.json").read_text())
    return {
        concept: [
            RLE((mask["size"][0], mask["size"][1]), mask["counts"].encode()) for mask in masks
        ]
        for concept, masks in by_concept.items()
    }


def _ious(found: list[RLE], expected: list[RLE]) -> list[float]:
    """The best intersection over union of each expected mask; 0 with one of another size."""
    return [
        max((rle_iou(mask, truth) for mask in found if mask.size == truth.size), default=0.0)
        for truth in expected
    ]
