"""From the public request to a checked task: protobuf ends here."""

from dataclasses import replace

from limelight.convert.enums import IMAGE_FORMAT, MASK_FORMAT, RENDER_KIND, REVIEW_MODE
from limelight.convert.plans import queries_from_proto, selection_from_proto
from limelight.faults import InvalidRequest, Reason
from limelight.paths import FieldPath
from limelight.v1 import limelight_pb2, plan_pb2
from limelight.values import Plan
from services.gateway.admission import Cost
from services.gateway.rules import TaskRules
from services.gateway.tasks import ImageTask, RenderSpec

TASK = FieldPath(("task",))
IMAGE = TASK / "image" / "content"
INSTRUCTION = TASK / "instruction"
QUERIES = TASK / "queries"
RENDERS = TASK / "renders"


def estimated_cost(task: limelight_pb2.SegmentTask) -> Cost:
    """What a task will take, by what can be seen without checking it."""
    held = len(task.image.content)
    held += sum(len(render.background_image.content) for render in task.renders)
    kind = "planned" if task.WhichOneof("want") == "instruction" else "explicit"
    return Cost(kind, held)


def read_task(task: limelight_pb2.SegmentTask, rules: TaskRules) -> ImageTask:
    """Convert and check everything that can be checked now.

    Raises:
        InvalidRequest, InvalidMedia, TooLarge: at the path of the value at fault.
    """
    instruction: str | None = None
    plan: Plan | None = None
    match task.WhichOneof("want"):
        case "instruction":
            instruction = rules.instruction(task.instruction, INSTRUCTION)
        case "queries":
            plan = read_queries(task.queries, rules, QUERIES)
        case _:
            raise InvalidRequest(
                Reason.TASK_MISSING, "an instruction or queries are required", field=TASK / "want"
            )
    threshold = task.score_threshold if task.HasField("score_threshold") else None
    return ImageTask(
        image=task.image.content,
        header=rules.header(task.image.content, IMAGE, damaged=task.image.accept_damaged),
        instruction=instruction,
        plan=plan,
        score_threshold=rules.score_threshold(threshold, TASK / "score_threshold"),
        max_instances=rules.max_instances(task.max_instances, TASK / "max_instances"),
        mask_format=MASK_FORMAT.from_proto(task.mask_format, TASK / "mask_format"),
        review=REVIEW_MODE.from_proto(task.review, TASK / "review"),
        renders=_renders(task, rules),
        accept_damaged=task.image.accept_damaged,
    )


def read_queries(queries: plan_pb2.ConceptQueries, rules: TaskRules, path: FieldPath) -> Plan:
    """The plan of explicit queries. Raises `InvalidRequest` below `path`."""
    select = None
    if queries.HasField("select"):
        select = selection_from_proto(queries.select, path / "select")
    include, exclude = map(queries_from_proto, (queries.include, queries.exclude))
    return rules.explicit_plan(include, exclude, select, path)


def _renders(task: limelight_pb2.SegmentTask, rules: TaskRules) -> tuple[RenderSpec, ...]:
    rules.render_count(len(task.renders), RENDERS)
    specs = []
    for index, message in enumerate(task.renders):
        path = RENDERS / index
        spec = RenderSpec(
            RENDER_KIND.from_proto(message.kind, path / "kind"),
            IMAGE_FORMAT.from_proto(message.format, path / "format"),
        )
        match message.WhichOneof("background"):
            case "background_color":
                spec = replace(spec, background=message.background_color)
            case "background_image":
                behind = message.background_image
                spec = replace(
                    spec, background=behind.content, accept_damaged=behind.accept_damaged
                )
        rules.render(spec, path)
        specs.append(spec)
    return tuple(specs)
