"""Bytes that are no message: where the first fault is, and that every one of them is found."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from limelight.v1 import limelight_pb2
from services.rpc.wire import REQUEST, MalformedRequest, reader

read = reader(limelight_pb2.SegmentRequest.FromString)
assert read is not None
SOUND = limelight_pb2.SegmentRequest(
    task={
        "image": {"content": b"\xff\xfe"},
        "queries": {
            "include": [{"phrase": "cat"}, {"phrase": "dog"}],
            "exclude": [{"exemplars": [{"box": {"x1": 1, "y1": 1}}]}],
        },
        "score_threshold": 0.5,
        "max_instances": 3,
    }
).SerializeToString()
TASK = b"\x0a"  # field 1, of bytes


@pytest.mark.parametrize(
    ("data", "field", "fault"),
    [
        (SOUND.replace(b"dog", b"d\xe9g"), "task.queries.include[1].phrase", "not UTF-8"),
        (SOUND.replace(b"dog", b"d\xed\xa0"), "task.queries.include[1].phrase", "not UTF-8"),
        (SOUND[:-1], "task", "end in the middle"),
        (TASK + b"\x02\x0a\x7f", "task.image", "end in the middle"),
        (b"\xff" * 20, str(REQUEST), "not protobuf"),
        (b"\x00\x00", str(REQUEST), "not protobuf"),
        (TASK + b"\x01\x07", "task", "not protobuf"),
        (TASK + b"\xff\xff\xff\xff\x0f", "task", "end in the middle"),
    ],
)
def test_the_first_fault_is_named(data: bytes, field: str, fault: str) -> None:
    found = read(data)
    assert isinstance(found, MalformedRequest)
    assert (str(found.field), fault in found.fault) == (field, True), found


def test_what_is_sound_comes_through() -> None:
    assert read(SOUND).task.queries.include[1].phrase == "dog"
    # Fields of a newer client are no fault.
    assert read(SOUND + b"\xfa\x7f\x01x").task.max_instances == 3


def test_whatever_the_bytes_are_nothing_is_raised() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(3000):
        data = bytearray(SOUND)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] = rng.integers(256)
        found = read(bytes(data))
        if isinstance(found, MalformedRequest):
            assert str(found.field)
            seen.add(found.fault)
    assert len(seen) >= 3


def test_nesting_has_an_end() -> None:
    data = b""
    for _ in range(10_000):
        length = len(data)
        varint = b""
        while length >= 128:
            varint += bytes((length & 127 | 128,))
            length >>= 7
        data = TASK + varint + bytes((length,)) + data
        if len(data) > 60_000:
            break
    assert isinstance(read(data), MalformedRequest | limelight_pb2.SegmentRequest)


# Reads a request when there is no room for another copy of it, and says what came of it.
_CRAMPED = """
import resource
from pathlib import Path
from limelight.v1 import limelight_pb2
from services.rpc.wire import reader

read = reader(limelight_pb2.SegmentRequest.FromString)
message = limelight_pb2.SegmentRequest()
message.task.image.content = bytes(300 << 20)
data = message.SerializeToString()
del message
pages = int(Path("/proc/self/statm").read_text().split()[0])
held = pages * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held - (64 << 20), resource.RLIM_INFINITY))
found = read(data)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(type(found).__name__, found.reason, found)
"""


def test_a_request_there_is_no_memory_for_is_not_the_callers_fault() -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system has no /proc")
    told = subprocess.run(
        [sys.executable, "-c", _CRAMPED], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "OutOf OVERLOADED the service is out of memory"
