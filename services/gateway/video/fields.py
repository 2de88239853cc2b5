"""A tracker's refusal in the words of the caller: the field that the caller wrote."""

from collections.abc import Iterator
from contextlib import contextmanager

from limelight.faults import InvalidRequest, Reason
from limelight.paths import FieldPath
from services.errors import ServiceError
from services.gateway.video.reading import CHANGE, CHUNK, CONFIG, FRAME, INSTRUCTION, MASKS
from services.gateway.video.tasks import TrackTask

_OPENING = FieldPath(("opening",))
_QUERIES = FieldPath(("queries",))
# Named by the gateway itself.
_KEPT = (CHANGE, FRAME, CHUNK, MASKS)
# Of the opening, under the same names in the config.
_CONFIG = ("objects", "score_threshold", "max_objects", "stride", "max_side", "range")


@contextmanager
def as_the_client_wrote(task: TrackTask) -> Iterator[None]:
    """Rename the field of a refusal; what the planner wrote cannot be the caller's fault."""
    try:
        yield
    except ServiceError as error:
        if error.field is None or any(error.field.below(path) for path in _KEPT):
            raise
        field = error.field.below(_OPENING) or error.field
        query = field.below(_QUERIES)
        if query is not None and task.instruction is not None:
            raise InvalidRequest(
                Reason.INSTRUCTION_INVALID,
                "the instruction could not be turned into phrases the tracker reads: "
                + error.message,
                field=INSTRUCTION,
            ) from error
        if query is not None:
            error.field = _query_path(query, task)
        elif field.parts and field.parts[0] in _CONFIG:
            error.field = CONFIG / field
        else:
            error.field = CHUNK if not task.live else FRAME
        raise


def _query_path(query: FieldPath, task: TrackTask) -> FieldPath:
    """`config.queries.exclude[0].phrase` for `[3].phrase` when three are included."""
    queries = CONFIG / "queries"
    if task.plan is None or not query.parts or not isinstance(query.parts[0], int):
        return queries
    number, rest = query.parts[0], FieldPath(query.parts[1:])
    included = len(task.plan.include)
    if number < included:
        return queries / "include" / number / rest
    return queries / "exclude" / (number - included) / rest
