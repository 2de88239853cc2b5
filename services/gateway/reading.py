"""From the public request to a checked task: protobuf ends here."""

from dataclasses import replace

from limelight.convert.enums import IMAGE_FORMAT, MASK_FORMAT, RENDER_KIND, REVIEW_MODE
from limelight.convert.plans import queries_from_proto, selection_from_proto
from limelight.faults import InvalidRequest, Reason
from limelight.paths import FieldPath
from limelight.v1 import limelight_pb2, plan_pb2
from limelight.values import Plan
from services.gateway.admission import INSTRUCTIONS, PHRASES
from services.gateway.lanes import Cost
from services.gateway.request_fields import IMAGE, INSTRUCTION, QUERIES, RENDERS, TASK
from services.gateway.rules import TaskRules
from services.gateway.tasks import ImageTask, RenderSpec

# Work beyond that of a plain call: one query of a small picture, or a short instruction.
_PER_QUERY, _PER_MEGAPIXEL, _PER_RENDER, _PER_TOKEN = 0.1, 0.05, 0.1, 0.002
# A token of English has some four characters; a JPEG file some 3 bits a pixel.
_CHARS_PER_TOKEN, _BYTES_PER_MEGAPIXEL = 4, 375_000
# What is not checked yet may lie about itself: a guess goes no further than this.
_GUESSED_MEGAPIXELS, _GUESSED_QUERIES = 50.0, 32


def estimated_cost(task: limelight_pb2.SegmentTask) -> Cost:
    """What a task will take, by what can be seen without checking it."""
    held = len(task.image.content)
    held += sum(len(render.background_image.content) for render in task.renders)
    megapixels = min(held / _BYTES_PER_MEGAPIXEL, _GUESSED_MEGAPIXELS)
    if task.WhichOneof("want") == "instruction":
        work = _PER_TOKEN * len(task.instruction) / _CHARS_PER_TOKEN
        return Cost(INSTRUCTIONS, held, 1 + work + _PER_MEGAPIXEL * megapixels)
    queries = len(task.queries.include) + len(task.queries.exclude)
    work = _PER_QUERY * max(0, min(queries, _GUESSED_QUERIES) - 1)
    return Cost(PHRASES, held, 1 + work + _PER_MEGAPIXEL * megapixels)


def known_cost(task: ImageTask) -> Cost:
    """What a checked task will take, by the size of its picture and what it asks for."""
    work = _PER_MEGAPIXEL * task.header.width * task.header.height / 1e6
    work += _PER_RENDER * len(task.renders) * max(1.0, task.header.width * task.header.height / 1e6)
    if task.instruction is not None:
        tokens = len(task.instruction) / _CHARS_PER_TOKEN
        return Cost(INSTRUCTIONS, len(task.image), 1 + work + _PER_TOKEN * tokens)
    assert task.plan is not None
    return Cost(PHRASES, len(task.image), 1 + work + _PER_QUERY * (len(task.plan.queries) - 1))


async def read_task(task: limelight_pb2.SegmentTask, rules: TaskRules) -> ImageTask:
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
        header=await rules.header(task.image.content, IMAGE, damaged=task.image.accept_damaged),
        instruction=instruction,
        plan=plan,
        score_threshold=rules.score_threshold(threshold, TASK / "score_threshold"),
        max_instances=rules.max_instances(task.max_instances, TASK / "max_instances"),
        mask_format=MASK_FORMAT.from_proto(task.mask_format, TASK / "mask_format"),
        review=REVIEW_MODE.from_proto(task.review, TASK / "review"),
        renders=await _renders(task, rules),
        accept_damaged=task.image.accept_damaged,
    )


def read_queries(queries: plan_pb2.ConceptQueries, rules: TaskRules, path: FieldPath) -> Plan:
    """The plan of explicit queries. Raises `InvalidRequest` below `path`."""
    # Before any is converted, since a request has room for millions.
    rules.query_count(len(queries.include) + len(queries.exclude), path)
    select = None
    if queries.HasField("select"):
        select = selection_from_proto(queries.select, path / "select")
    include, exclude = map(queries_from_proto, (queries.include, queries.exclude))
    return rules.explicit_plan(include, exclude, select, path)


async def _renders(task: limelight_pb2.SegmentTask, rules: TaskRules) -> tuple[RenderSpec, ...]:
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
        specs.append(await rules.render(spec, path))
    return tuple(specs)
