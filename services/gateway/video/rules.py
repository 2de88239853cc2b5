"""What the gateway accepts of a video's config and changes: its settings applied to values.

Every check raises `InvalidRequest` at the path it is given.
"""

import math

from limelight.faults import InvalidRequest, Reason
from limelight.paths import FieldPath
from limelight.text import text_fault
from limelight.validation import check_object, check_query
from limelight.values import (
    AddQuery,
    DropPhrase,
    ObjectPrompt,
    PromptChange,
    SetObject,
    TimeRange,
)
from services.gateway.rules import MAX_PHRASE_CHARS
from services.gateway.settings import Settings

MAX_POINTS = 16
MIN_SIDE = 16


class TrackRules:
    """The rules for one video, by the limits of `settings`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def number(self, value: int, most: int, name: str, path: FieldPath) -> int:
        """A count from 0 (unset) to `most`."""
        if not 0 <= value <= most:
            raise InvalidRequest(
                Reason.OPTION_INVALID, f"{name} must be from 1 to {most}, not {value}", field=path
            )
        return value

    def max_objects(self, value: int, path: FieldPath) -> int:
        return self.number(value, self._settings.max_track_objects, "max_objects", path)

    def stride(self, value: int, path: FieldPath) -> int:
        return self.number(value, self._settings.max_stride, "stride", path) or 1

    def frame_window(self, value: int, path: FieldPath) -> int:
        return self.number(value, self._settings.max_frame_window, "frame_window", path)

    def max_side(self, value: int, path: FieldPath) -> int:
        """0, or at least `MIN_SIDE`."""
        if value != 0 and value < MIN_SIDE:
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                f"max_side must be {MIN_SIDE} or more, not {value}",
                field=path,
            )
        return value

    def range(self, value: TimeRange, path: FieldPath) -> TimeRange:
        """Finite, not negative, and not empty."""
        if not (math.isfinite(value.start_s) and value.start_s >= 0):
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                f"a range starts at 0 s or later, not at {value.start_s:g}",
                field=path / "start_s",
            )
        if value.end_s is not None and not value.start_s < value.end_s < math.inf:
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                f"a range must end after it starts, not at {value.end_s:g} s",
                field=path / "end_s",
            )
        return value

    def objects(self, prompts: tuple[ObjectPrompt, ...], path: FieldPath) -> None:
        """At most as many as may be tracked, each sound and new."""
        most = self._settings.max_track_objects
        if len(prompts) > most:
            raise InvalidRequest(
                Reason.OBJECT_INVALID, f"{len(prompts)} objects; at most {most}", field=path
            )
        for index, prompt in enumerate(prompts):
            self._object(prompt, path / index)
            if prompt.object_id:
                raise InvalidRequest(
                    Reason.OBJECT_INVALID,
                    "an object of the first frame has no id yet",
                    field=path / index / "object_id",
                )

    def change(self, change: PromptChange, path: FieldPath) -> PromptChange:
        """A change that can be sound, whatever is tracked."""
        if change.at_frame is not None and change.at_frame < 0:
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                f"a frame's index is 0 or more, not {change.at_frame}",
                field=path / "at_frame",
            )
        match change.change:
            case AddQuery(query):
                check_query(
                    query,
                    path / "add_query",
                    max_exemplars=self._settings.max_exemplars,
                    max_phrase_chars=MAX_PHRASE_CHARS,
                )
            case DropPhrase(phrase):
                fault = text_fault(phrase, MAX_PHRASE_CHARS)
                if fault is not None:
                    raise InvalidRequest(
                        Reason.PHRASE_INVALID, f"the phrase {fault}", field=path / "drop_phrase"
                    )
            case SetObject(prompt):
                self._object(prompt, path / "set_object")
        return change

    def _object(self, prompt: ObjectPrompt, path: FieldPath) -> None:
        check_object(prompt, path, max_points=MAX_POINTS, max_label_chars=MAX_PHRASE_CHARS)
