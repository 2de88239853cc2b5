"""What a stream tells of itself for another gateway to go on from; nothing where none is to."""

from typing import Protocol

from limelight.v1 import video_pb2


class StreamJournal(Protocol):
    """Takes a stream's checkpoints and changes, without ever holding the stream up."""

    @property
    def due(self) -> bool:
        """Whether a checkpoint would be taken now."""

    def checkpoint(self, next_frame: int, content: bytes, given_up: int) -> None:
        """The stream right before `next_frame`, as a `StreamCheckpoint`.

        Frames up to `given_up` will not be asked for any more.
        """

    def change(self, number: int, change: video_pb2.PromptChange) -> None:
        """The client's change `number`, from 1."""

    def stop(self) -> None:
        """Write nothing more; what is written stays for its time."""


class NoJournal:
    """Keeps nothing."""

    due = False

    def checkpoint(self, next_frame: int, content: bytes, given_up: int) -> None:
        raise AssertionError("no checkpoint is ever due")

    def change(self, number: int, change: video_pb2.PromptChange) -> None:
        pass

    def stop(self) -> None:
        pass
