"""Masks in the format that was asked for: run lengths at once, the others in threads, which stop
as soon as nobody waits or the message that is to carry them has no more room.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from threading import Event

from limelight.values import RLE, MaskFormat
from services.domain import SegmentedInstance
from services.gateway.answer_size import MaskRoom
from services.gateway.answers import MaskedInstance, WrittenMask
from services.gateway.rendering import write_masks
from services.stages import StageTimer, with_cpu

_UNDRAWN = frozenset((MaskFormat.RLE, MaskFormat.NONE))


async def written_masks(
    masks: Sequence[RLE], room: MaskRoom, executor: Executor
) -> tuple[list[WrittenMask | None], float]:
    """The masks in the format of `room`, and the seconds of CPU that writing them took.

    Raises:
        TooLarge: MASKS_TOO_LARGE, as soon as it is certain.
    """
    if room.format in _UNDRAWN:
        return with_cpu(write_masks, masks, room)
    gone = Event()
    try:
        return await asyncio.get_running_loop().run_in_executor(
            executor, with_cpu, write_masks, masks, room, gone.is_set
        )
    finally:
        gone.set()


class MaskWriter:
    """Writes the masks of one request, each once, however many events tell it.

    Args:
        room: of each message.
        executor: where masks are drawn.
        timer: of the request.
    """

    def __init__(self, room: MaskRoom, executor: Executor, timer: StageTimer) -> None:
        self._room = room
        self._executor = executor
        self._timer = timer
        self._written: dict[int, WrittenMask | None] = {}

    async def masked(self, instances: Sequence[SegmentedInstance]) -> tuple[MaskedInstance, ...]:
        """Each instance with its mask.

        Raises:
            TooLarge: MASKS_TOO_LARGE, as soon as it is certain.
        """
        new = [item for item in instances if item.id not in self._written]
        # Run lengths are what there is; nothing is drawn.
        drawn = self._room.format not in _UNDRAWN
        with self._timer.stage("render") if drawn else nullcontext():
            masks, _ = await written_masks([item.mask for item in new], self._room, self._executor)
        self._written |= zip((item.id for item in new), masks, strict=True)
        return tuple(MaskedInstance(item, self._written[item.id]) for item in instances)
