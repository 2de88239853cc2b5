"""What a session needs to go on elsewhere, as bytes: prompts, masks, counts, answers held back.

Memories are not in it, being large; they are made anew from each object's last mask and the pixels
of the last frame. An object that was hidden then has no mask there, so its last conditioning memory
does go along. Tensors are bound to the model's revision and left out under another.

Compressed JSON. Internal to one release of the services: version and model are checked, and what
cannot be read is refused as `InvalidRequest`, never half used.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limelight.faults import InvalidRequest, Reason
from limelight.masks import decode_rle, encode_rle
from limelight.paths import FieldPath
from limelight.values import RLE, Box, ConceptQuery, Exemplar
from services.segmenter.engines import Embedding
from services.segmenter.video.changes import (
    ObjectRemoved,
    ObjectShown,
    PhraseAdded,
    PhraseRemoved,
    SessionChange,
    Shape,
)
from services.segmenter.video.engine import Logits, VideoEngine
from services.segmenter.video.looks import LOOK_SHAPE, ObjectLook
from services.segmenter.video.matching import TrackRecord
from services.segmenter.video.memory import MemoryBank, MemoryReach
from services.segmenter.video.motion import ObjectMotion
from services.segmenter.video.results import MaskletFrame, MaskletInstance, Sighting
from services.segmenter.video.state import TrackedConcept, TrackedObject, TrackingState

STATE = FieldPath(("state",))
_VERSION = 1
# Far more than a session of many objects takes; a bound on what hostile bytes may unpack to.
_MAX_BYTES = 256 * 1024 * 1024
# Pointers of conditioning frames that go along with each object.
_POINTERS = 4


@dataclass(frozen=True, slots=True, eq=False)
class SessionSnapshot:
    """A session between two frames.

    Attributes:
        state: concepts and objects.
        changes: that wait for the next frame.
        phrases: concepts that it was given in all.
        prompted: objects likewise.
        last_index: the caller's index of the last frame; None before the first.
        held: answers held back, oldest first.
    """

    state: TrackingState
    changes: tuple[SessionChange, ...]
    phrases: int
    prompted: int
    last_index: int | None
    held: tuple[MaskletFrame, ...]


def dump_snapshot(snapshot: SessionSnapshot, engine: VideoEngine) -> bytes:
    """`snapshot` as bytes. Blocking; may run beside the engine's steps."""
    state = snapshot.state
    written = {
        "version": _VERSION,
        "model": _model(engine),
        "place": state.place,
        "next_id": state.next_id,
        "concepts": [_concept(concept, engine) for concept in state.concepts],
        "objects": [_object(item, engine) for item in state.objects],
        "changes": [_change(change) for change in snapshot.changes],
        "phrases": snapshot.phrases,
        "prompted": snapshot.prompted,
        "last_index": snapshot.last_index,
        "held": [_frame(frame) for frame in snapshot.held],
    }
    return zlib.compress(json.dumps(written, separators=(",", ":")).encode(), 1)


def load_snapshot(content: bytes, engine: VideoEngine, reach: MemoryReach) -> SessionSnapshot:
    """The snapshot that `dump_snapshot` wrote.

    The objects' `mask` is that of the last frame, as logits of 10 and -10; banks hold what came
    along.

    Raises:
        InvalidRequest: OPTION_INVALID at `state`, it is none, or of another release.
    """
    try:
        unpacker = zlib.decompressobj()
        written = json.loads(unpacker.decompress(content, _MAX_BYTES))
        if written["version"] != _VERSION:
            raise _invalid(f"version {written['version']}, not {_VERSION}")
        same = written["model"] == _model(engine)
        return SessionSnapshot(
            state=TrackingState(
                place=int(written["place"]),
                next_id=int(written["next_id"]),
                concepts=tuple(_concept_of(c, engine, same) for c in written["concepts"]),
                objects=tuple(_object_of(o, engine, same, reach) for o in written["objects"]),
            ),
            changes=tuple(_change_of(change) for change in written["changes"]),
            phrases=int(written["phrases"]),
            prompted=int(written["prompted"]),
            last_index=written["last_index"],
            held=tuple(_frame_of(frame) for frame in written["held"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
        if isinstance(error, InvalidRequest):
            raise
        raise _invalid(type(error).__name__) from error


def _model(engine: VideoEngine) -> list[str]:
    model = engine.describe().model
    return [model.name, model.revision, model.engine]


def _tensors(embedding: Embedding | None, engine: VideoEngine) -> str | None:
    return None if embedding is None else base64.b64encode(engine.dump(embedding)).decode()


def _embedding_of(text: str | None, engine: VideoEngine) -> Embedding | None:
    return None if text is None else engine.restore(base64.b64decode(text))


def _concept(concept: TrackedConcept, engine: VideoEngine) -> dict[str, Any]:
    return {
        "key": concept.key,
        **_query(concept.query),
        "prompt": _tensors(concept.prompt, engine),
    }


def _concept_of(written: Mapping[str, Any], engine: VideoEngine, same: bool) -> TrackedConcept:
    query = _query_of(written)
    prompt = _embedding_of(written["prompt"], engine) if same else None
    if written["prompt"] is not None and prompt is None:
        # Its exemplars are of a frame that is gone.
        query = ConceptQuery(query.phrase)
    return TrackedConcept(int(written["key"]), query, prompt)


def _query(query: ConceptQuery) -> dict[str, Any]:
    exemplars = [[*_corners(e.box), e.positive] for e in query.exemplars]
    return {"phrase": query.phrase, "exemplars": exemplars}


def _query_of(written: Mapping[str, Any]) -> ConceptQuery:
    exemplars = ((_box_of(e[:4]), bool(e[4])) for e in written["exemplars"])
    return ConceptQuery(str(written["phrase"]), tuple(Exemplar(*e) for e in exemplars))


def _object(item: TrackedObject, engine: VideoEngine) -> dict[str, Any]:
    mask = item.mask > 0
    kept = item.bank.anchors(_POINTERS, memory=not mask.any())
    look = item.record.look
    return {
        "record": asdict(replace(item.record, look=None)),
        "look": look and [_floats(look.colors), _floats(look.solid)],
        "mask": _rle(encode_rle(mask)),
        "anchors": [
            [at, _tensors(memory, engine), _tensors(pointer, engine)]
            for at, memory, pointer in kept
        ],
    }


def _object_of(
    written: Mapping[str, Any], engine: VideoEngine, same: bool, reach: MemoryReach
) -> TrackedObject:
    fields = dict(written["record"])
    fields["duplicates"] = tuple((int(a), int(b)) for a, b in fields["duplicates"])
    if fields["motion"] is not None:
        pairs = {name: (float(x), float(y)) for name, (x, y) in fields["motion"].items()}
        fields["motion"] = ObjectMotion(**pairs)
    if written["look"] is not None:
        colors, solid = map(_floats_of, written["look"])
        fields["look"] = ObjectLook(colors.reshape(LOOK_SHAPE), solid.reshape(LOOK_SHAPE[:2]))
    bank = MemoryBank(reach)
    for at, memory, pointer in written["anchors"] if same else ():
        known = _embedding_of(pointer, engine)
        if known is not None:
            bank.add(int(at), _embedding_of(memory, engine), known, conditioning=True)
    mask = decode_rle(_rle_of(written["mask"]), field=STATE)
    return TrackedObject(TrackRecord(**fields), bank, _sure(mask))


def _floats(values: NDArray[np.float32]) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _floats_of(text: str) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)


def _sure(mask: Any) -> Logits:
    return np.where(mask, np.float32(10), np.float32(-10))


def _change(change: SessionChange) -> dict[str, Any]:
    match change:
        case PhraseAdded(key, query):
            return {"kind": "phrase", "key": key, **_query(query)}
        case PhraseRemoved(phrase):
            return {"kind": "no_phrase", "phrase": phrase}
        case ObjectShown(object_id, key, shape):
            return {"kind": "object", "id": object_id, "key": key, "shape": _shape(shape)}
        case ObjectRemoved(object_id):
            return {"kind": "no_object", "id": object_id}


def _change_of(written: Mapping[str, Any]) -> SessionChange:
    match written["kind"]:
        case "phrase":
            return PhraseAdded(int(written["key"]), _query_of(written))
        case "no_phrase":
            return PhraseRemoved(str(written["phrase"]))
        case "object":
            shape = _shape_of(written["shape"])
            return ObjectShown(int(written["id"]), int(written["key"]), shape)
        case "no_object":
            return ObjectRemoved(int(written["id"]))
    raise _invalid("a change of no known kind")


def _shape(shape: Shape) -> dict[str, Any]:
    if isinstance(shape, Box):
        return {"box": _corners(shape)}
    if isinstance(shape, RLE):
        return {"mask": _rle(shape)}
    return {"points": [list(click) for click in shape]}


def _shape_of(written: Mapping[str, Any]) -> Shape:
    if "box" in written:
        return _box_of(written["box"])
    if "mask" in written:
        return _rle_of(written["mask"])
    return tuple((float(x), float(y), bool(on)) for x, y, on in written["points"])


def _frame(frame: MaskletFrame) -> dict[str, Any]:
    return {
        "index": frame.index,
        "size": [frame.width, frame.height],
        "over_cap": frame.over_cap,
        "removed": list(frame.removed),
        "instances": [
            [
                item.object_id,
                item.concept,
                item.phrase,
                [item.score, item.visibility, item.presence, item.sighting],
                _corners(item.box),
                _rle(item.mask),
                item.area,
            ]
            for item in frame.instances
        ],
    }


def _frame_of(written: Mapping[str, Any]) -> MaskletFrame:
    instances = []
    for number, concept, phrase, told, box, mask, area in written["instances"]:
        score, seen, presence, sighting = told
        about = (number, concept, phrase, score, seen, presence, Sighting(sighting))
        instances.append(MaskletInstance(*about, _box_of(box), _rle_of(mask), area))
    width, height = written["size"]
    return MaskletFrame(
        index=int(written["index"]),
        width=int(width),
        height=int(height),
        instances=tuple(instances),
        over_cap=int(written["over_cap"]),
        removed=tuple(int(number) for number in written["removed"]),
    )


def _corners(box: Box) -> list[float]:
    return [box.x0, box.y0, box.x1, box.y1]


def _box_of(corners: Sequence[float]) -> Box:
    x0, y0, x1, y1 = map(float, corners)
    return Box(x0, y0, x1, y1)


def _rle(mask: RLE) -> list[Any]:
    return [*mask.size, mask.counts.decode("ascii")]


def _rle_of(written: Sequence[Any]) -> RLE:
    height, width, counts = written
    return RLE((int(height), int(width)), str(counts).encode("ascii"))


def _invalid(why: str) -> InvalidRequest:
    return InvalidRequest(
        Reason.OPTION_INVALID, f"the session's state cannot be read: {why}", field=STATE
    )
