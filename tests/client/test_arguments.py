"""Odd arguments: what is right by any spelling is taken, what is not is named with what it was."""

import asyncio
import math
import threading
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from limelight import (
    AsyncClient,
    Box,
    Client,
    ClientStateError,
    ConceptQuery,
    Exemplar,
    Render,
    RetryPolicy,
    SelectBy,
    Selection,
)
from limelight.targets import check_target
from limelight.tasks import Want, image_bytes
from limelight.v1 import limelight_pb2
from limelight.values import ReviewMode
from tests.client.stand_in import StandIn

BOX = Box(0, 0, 1, 1)


def task(**arguments: Any) -> limelight_pb2.SegmentTask:
    arguments.setdefault("phrases", ["dog"])
    return Want(**arguments).task(b"x")


def boxed(box: Any, positive: Any = True) -> list[ConceptQuery]:
    return [ConceptQuery("", (Exemplar(box, positive),))]


def ranked(rank: Any, count: Any = 1) -> Selection:
    return Selection(SelectBy.LEFTMOST, rank, count)


@pytest.mark.parametrize("value", [5, 5.0, np.int64(5), np.uint8(5), np.float32(5), Fraction(5)])
def test_a_whole_number_is_one_in_any_type(value: Any) -> None:
    made = task(max_instances=value, select=ranked(value, value))
    assert (made.max_instances, made.queries.select.rank, made.queries.select.count) == (5, 5, 5)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), Fraction(1, 2)])
def test_a_number_is_one_in_any_type(value: Any) -> None:
    made = task(score_threshold=value, phrases=None, queries=boxed(Box(value, 0, 1, 1)))
    assert made.score_threshold == 0.5
    assert made.queries.include[0].exemplars[0].box.x0 == 0.5


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        ({"max_instances": 2.5}, ValueError, "max_instances must be a whole number, not 2.5"),
        ({"max_instances": math.nan}, ValueError, "max_instances must be a whole number, not nan"),
        ({"max_instances": math.inf}, ValueError, "max_instances must be a whole number, not inf"),
        ({"max_instances": "5"}, TypeError, "max_instances must be a whole number, not '5'"),
        ({"max_instances": True}, TypeError, "max_instances must be a whole number, not True"),
        ({"max_instances": 0}, ValueError, "max_instances must be from 1 to 2147483647, not 0"),
        ({"max_instances": 2**40}, ValueError, "max_instances must be from 1 to"),
        ({"select": ranked(0)}, ValueError, "select.rank must be from 1 to 2147483647, not 0"),
        ({"select": ranked(1.5)}, ValueError, "select.rank must be a whole number, not 1.5"),
        ({"select": ranked("2")}, TypeError, "select.rank must be a whole number, not '2'"),
        ({"select": ranked(1, 0)}, ValueError, "select.count must be from 1"),
        ({"select": "leftmost"}, TypeError, "select must be a Selection, not 'leftmost'"),
        ({"select": Selection("left")}, ValueError, "select.by must be one of leftmost, "),  # type: ignore[arg-type]
        ({"score_threshold": "0.5"}, TypeError, "score_threshold must be a number, not '0.5'"),
        ({"score_threshold": True}, TypeError, "score_threshold must be a number, not True"),
        ({"score_threshold": 10**400}, ValueError, "score_threshold is out of range"),
        ({"phrases": ["a", 1]}, TypeError, "phrases[1] must be text, not 1"),
        ({"phrases": [b"a"]}, TypeError, "phrases[0] must be text, not b'a'"),
        ({"phrases": [None]}, TypeError, "phrases[0] must be text, not None"),
        ({"phrases": ["a\ud800"]}, ValueError, "phrases[0] holds U+D800, half of a surrogate"),
        ({"phrases": "dog"}, TypeError, "phrases must be a list, not 'dog'"),
        ({"phrases": 5}, TypeError, "phrases must be a list, not 5"),
        ({"queries": ["dog"]}, TypeError, "queries[0] must be a ConceptQuery, not 'dog'"),
        ({"queries": ConceptQuery("a")}, TypeError, "queries must be a list, not ConceptQuery"),
        ({"queries": [ConceptQuery(5)]}, TypeError, "queries[0].phrase must be text, not 5"),  # type: ignore[arg-type]
        (
            {"queries": [ConceptQuery("a", (BOX,))]},  # type: ignore[arg-type]
            TypeError,
            "queries[0].exemplars[0] must be an Exemplar, not Box(",
        ),
        (
            {"queries": boxed((0, 0, 1, 1))},
            TypeError,
            "queries[0].exemplars[0].box must be a Box, not (0, 0, 1, 1)",
        ),
        (
            {"queries": boxed(Box("0", 0, 1, 1))},  # type: ignore[arg-type]
            TypeError,
            "queries[0].exemplars[0].box.x0 must be a number, not '0'",
        ),
        (
            {"queries": boxed(BOX, "no")},
            TypeError,
            "queries[0].exemplars[0].positive must be True or False, not 'no'",
        ),
        ({"exclude": [1]}, TypeError, "exclude[0] must be a ConceptQuery, not 1"),
        ({"exclude": "dog"}, TypeError, "exclude must be a list, not 'dog'"),
        ({"review": "always"}, TypeError, "review must be True or False, not 'always'"),
        ({"review": ReviewMode.ALWAYS}, TypeError, "review must be True or False"),
        ({"review": []}, TypeError, "review must be True or False, not []"),
        ({"renders": "overlay"}, TypeError, "renders must be a list, not 'overlay'"),
        ({"renders": Render("overlay")}, TypeError, "renders must be a list, not Render("),
        ({"renders": [5]}, TypeError, "renders[0] must be a Render or its kind, not 5"),
        (
            {"renders": [Render("background", background="red")]},
            ValueError,
            "renders[0].background is neither a color #rrggbb nor a file: 'red'",
        ),
        ({"phrases": None, "instruction": 5}, TypeError, "instruction must be text, not 5"),
        ({"phrases": None, "instruction": b"a"}, TypeError, "instruction must be text, not b'a'"),
        ({"phrases": None, "instruction": "\udc00"}, ValueError, "instruction holds U+DC00"),
    ],
)
def test_what_is_wrong_is_named(
    arguments: dict[str, Any], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind) as caught:
        task(**arguments)
    assert says in str(caught.value)


def test_an_empty_path_is_not_the_current_folder() -> None:
    with pytest.raises(ValueError, match="path is empty"):
        image_bytes("")


def call(kind: str, address: str, **options: Any) -> None:
    """One call by the client of that kind."""

    async def segment() -> None:
        async with AsyncClient(address) as client:
            await client.segment(b"x", "the dogs", **options)

    if kind == "async":
        asyncio.run(segment())
        return
    with Client(address) as client:
        client.segment(b"x", "the dogs", **options)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (
            {"scoer_threshold": 0.5},
            TypeError,
            "segment has no argument 'scoer_threshold'; it has image, ",
        ),
        ({"timeout": 0}, ValueError, "timeout must be above 0 seconds, not 0"),
        ({"timeout": -1.5}, ValueError, "timeout must be above 0 seconds, not -1.5"),
        ({"timeout": math.nan}, ValueError, "timeout must be above 0 seconds, not nan"),
        ({"timeout": "5"}, TypeError, "timeout must be a number, not '5'"),
        ({"request_id": 5}, TypeError, "request_id must be text, not 5"),
        ({"request_id": "é"}, ValueError, "request_id must be 1 to 128 of the characters"),
        ({"request_id": "a b"}, ValueError, "request_id must be 1 to 128 of the characters"),
        ({"request_id": "a\n"}, ValueError, "request_id must be 1 to 128 of the characters"),
    ],
)
def test_options_that_make_no_call(
    address: str,
    service: StandIn,
    kind: str,
    options: dict[str, Any],
    error: type[Exception],
    says: str,
) -> None:
    with pytest.raises(error) as caught:
        call(kind, address, **options)
    assert says in str(caught.value)
    assert service.tasks == []


@pytest.mark.parametrize("timeout", [math.inf, 1e300, 1e12, np.float32(60), None])
def test_a_timeout_may_be_as_long_as_one_likes(address: str, timeout: Any) -> None:
    call("sync", address, timeout=timeout)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://127.0.0.1:50551", "is a URL; write HOST:PORT"),
        ("https://limelight.example", "is a URL; write HOST:PORT"),
        ("", "names no host"),
        (":50551", "names no host"),
        ("a b:50551", "names no host"),
        ("[::1", "names no host"),
        ("127.0.0.1:99999", "no port from 1 to 65535"),
        ("127.0.0.1:0", "no port from 1 to 65535"),
        ("127.0.0.1:x", "no port from 1 to 65535"),
        ("localhost:", "no port from 1 to 65535"),
        ("[::1]:-1", "no port from 1 to 65535"),
        ("dns:///localhost:65536", "no port from 1 to 65535"),
        ("127.0.0.1:²", "no port from 1 to 65535"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_address_that_is_none_is_refused_at_once(
    kind: Callable[[str], object], address: str, says: str
) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        kind(address)
    assert repr(address) in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "localhost:50551",
        "limelight.example",
        "[::1]:50551",
        "::1",
        "dns:///limelight.example:443",
        "dns:localhost:1",
        "ipv4:127.0.0.1:1,127.0.0.2:65535",
        "ipv6:[::1]:1",
        "unix:gateway.sock",
        "unix:///run/a b",
        "xds:///limelight",
    ],
)
def test_addresses_that_grpc_resolves_are_taken(address: str) -> None:
    assert check_target(address) == address


@pytest.mark.parametrize(
    ("metadata", "error", "says"),
    [
        ({"authorization": "hunter2"}, TypeError, "pairs, not a mapping"),
        ([("Authorization", "hunter2")], ValueError, "'Authorization' is not a name"),
        ([("a b", "hunter2")], ValueError, "'a b' is not a name"),
        ([("authorization", "hunter2\n")], ValueError, "authorization must be printable ASCII"),
        ([("authorization", "hunter2é")], ValueError, "authorization must be printable ASCII"),
        ([("authorization", 5)], TypeError, "authorization must be text"),
        (["authorization"], TypeError, "pairs of a name and a value"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_metadata_that_cannot_be_sent_is_refused_at_once(
    kind: Callable[..., object], metadata: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error) as caught:
        kind("localhost:1", metadata=metadata)
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_binary_metadata_is_sent(address: str, service: StandIn) -> None:
    with Client(address, metadata=[("trace-bin", b"\x00\xff"), ("a", "b")]) as client:
        client.segment(b"x", "the dogs")
    assert service.metadata[0]["a"] == "b"
    assert service.metadata[0]["trace-bin"] == b"\x00\xff"  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"attempts": 0}, "attempts must be from 1"),
        ({"attempts": 1.5}, "attempts must be a whole number, not 1.5"),
        ({"attempts": "3"}, "attempts must be a whole number, not '3'"),
        ({"first_delay": -1}, "first_delay must be 0 seconds or more, not -1"),
        ({"max_delay": math.nan}, "max_delay must be 0 seconds or more, not nan"),
        ({"max_delay": math.inf}, "max_delay must be 0 seconds or more, not inf"),
        ({"max_delay": None}, "max_delay must be a number, not None"),
    ],
)
def test_a_retry_policy_is_checked_when_it_is_made(policy: dict[str, Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        RetryPolicy(**policy)


@pytest.mark.parametrize("shape", [(20, 30), (30, 20, 3), (20, 30, 1), (21, 30, 3), (1, 20, 30, 3)])
def test_a_crop_of_another_image_is_refused(address: str, shape: tuple[int, ...]) -> None:
    with Client(address) as client:
        instance = client.segment(b"x", "the dogs").instances[0]
    assert instance.crop(np.zeros((20, 30, 3), np.uint8)).shape[2] == 4
    with pytest.raises(ValueError, match=r"must be \[20, 30, 3\]"):
        instance.crop(np.zeros(shape, np.uint8))


async def streamed(client: AsyncClient) -> int:
    return len([event async for event in client.segment_stream(b"x", "the dogs")])


def test_an_async_client_may_be_made_before_its_loop(address: str) -> None:
    client = AsyncClient(address)

    async def work() -> int:
        await client.segment(b"x", "the dogs")
        events = await streamed(client)
        await client.close()
        return events

    assert asyncio.run(work()) == 4


def test_an_async_client_may_be_made_in_another_loop(address: str) -> None:
    async def make() -> AsyncClient:
        return AsyncClient(address)

    async def use(client: AsyncClient) -> None:
        async with client:
            await client.segment(b"x", "the dogs")

    asyncio.run(use(asyncio.run(make())))


def test_an_async_client_may_be_made_in_another_thread(address: str) -> None:
    made: list[AsyncClient] = []
    thread = threading.Thread(target=lambda: made.append(AsyncClient(address)))
    thread.start()
    thread.join()

    async def use() -> None:
        async with made[0] as client:
            assert await streamed(client) == 4

    asyncio.run(use())


@pytest.mark.parametrize("stream", [False, True])
def test_an_async_client_belongs_to_the_loop_of_its_first_call(
    address: str, service: StandIn, stream: bool
) -> None:
    client = AsyncClient(address)

    async def use() -> None:
        await (streamed(client) if stream else client.segment(b"x", "the dogs"))

    asyncio.run(use())
    with pytest.raises(ClientStateError, match="another event loop"):
        asyncio.run(use())
    assert len(service.tasks) == 1
    asyncio.run(client.close())  # its loop is gone, so there is nothing to wait for
    with pytest.raises(ClientStateError, match="closed"):
        asyncio.run(use())


async def test_an_async_client_in_use_is_not_closed_from_another_loop(address: str) -> None:
    client = AsyncClient(address)
    await client.segment(b"x", "the dogs")

    def elsewhere() -> None:
        with pytest.raises(ClientStateError, match="close it there"):
            asyncio.run(client.close())

    await asyncio.to_thread(elsewhere)
    await client.segment(b"x", "the dogs")
    await client.close()


@pytest.mark.parametrize("used", [False, True])
async def test_a_closed_async_client_says_so(address: str, used: bool) -> None:
    client = AsyncClient(address)
    if used:
        await client.segment(b"x", "the dogs")
    await client.close()
    await client.close()
    with pytest.raises(ClientStateError, match="the client is closed"):
        await client.segment(b"x", "the dogs")
    with pytest.raises(ClientStateError, match="the client is closed"):
        await streamed(client)


@pytest.mark.parametrize("used", [False, True])
def test_a_closed_client_says_so(address: str, used: bool) -> None:
    client = Client(address)
    if used:
        client.segment(b"x", "the dogs")
    client.close()
    client.close()
    with pytest.raises(ClientStateError, match="the client is closed"):
        client.segment(b"x", "the dogs")
    with pytest.raises(ClientStateError, match="the client is closed"):
        client.segment_stream(b"x", "the dogs")


def test_a_stream_begun_before_the_client_closed_says_so(address: str) -> None:
    client = Client(address)
    events = client.segment_stream(b"x", "the dogs")
    client.close()
    with pytest.raises(ClientStateError, match="the client is closed"):
        next(events)
