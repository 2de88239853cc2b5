"""From a public config or change to checked values: protobuf ends here."""

from limelight.convert.enums import MASK_FORMAT, REVIEW_MODE
from limelight.convert.prompts import change_from_proto, object_from_proto, range_from_proto
from limelight.faults import InvalidRequest, Reason
from limelight.paths import FieldPath
from limelight.v1 import video_pb2
from limelight.values import Plan, PlanOutcome, PromptChange
from services.gateway.reading import read_queries
from services.gateway.rules import TaskRules
from services.gateway.video.rules import TrackRules
from services.gateway.video.tasks import TrackTask

CONFIG = FieldPath(("config",))
MASKS = CONFIG / "mask_format"
CHANGE = FieldPath(("change",))
CHUNK = FieldPath(("chunk",))
FRAME = FieldPath(("frame",))
INSTRUCTION = CONFIG / "instruction"


def read_config(
    config: video_pb2.TrackConfig, image_rules: TaskRules, rules: TrackRules
) -> TrackTask:
    """Convert and check everything that can be checked without the video.

    Raises:
        InvalidRequest: at the path of the value at fault.
    """
    objects = tuple(
        object_from_proto(prompt, CONFIG / "objects" / index)
        for index, prompt in enumerate(config.objects)
    )
    rules.objects(objects, CONFIG / "objects")
    instruction: str | None = None
    plan: Plan | None = None
    match config.WhichOneof("want"):
        case "instruction":
            instruction = image_rules.instruction(config.instruction, INSTRUCTION)
        case "queries":
            plan = read_queries(config.queries, image_rules, CONFIG / "queries")
        case _ if objects:
            plan = Plan(outcome=PlanOutcome.EXPLICIT)
        case _:
            raise InvalidRequest(
                Reason.TASK_MISSING,
                "an instruction, queries or objects are required",
                field=CONFIG / "want",
            )
    part = None
    if config.HasField("range"):
        part = rules.range(range_from_proto(config.range), CONFIG / "range")
        if config.live:
            raise InvalidRequest(
                Reason.OPTION_INVALID, "live input has no range", field=CONFIG / "range"
            )
    threshold = config.score_threshold if config.HasField("score_threshold") else None
    return TrackTask(
        instruction=instruction,
        plan=plan,
        objects=objects,
        score_threshold=image_rules.score_threshold(threshold, CONFIG / "score_threshold"),
        max_objects=rules.max_objects(config.max_objects, CONFIG / "max_objects"),
        mask_format=MASK_FORMAT.from_proto(config.mask_format, CONFIG / "mask_format"),
        review=REVIEW_MODE.from_proto(config.review, CONFIG / "review"),
        range=part,
        stride=rules.stride(config.stride, CONFIG / "stride"),
        max_side=rules.max_side(config.max_side, CONFIG / "max_side"),
        changed_only=config.changed_only,
        frame_window=rules.frame_window(config.frame_window, CONFIG / "frame_window"),
        live=config.live,
    )


def read_change(message: video_pb2.PromptChange, rules: TrackRules) -> PromptChange:
    """Convert and check a change. Raises `InvalidRequest` at the path of the value at fault."""
    return rules.change(change_from_proto(message, CHANGE), CHANGE)
