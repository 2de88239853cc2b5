"""Places are freed, clocks are kept, and a gateway that leaves loses nothing."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from limelight import AsyncClient, Done, PlanMade, RetryPolicy
from limelight.errors import from_rpc
from limelight.v1 import limelight_pb2, limelight_pb2_grpc
from limelight.values import ConceptQuery, Plan
from services.gateway.app import SERVICE, Gateway, start
from services.gateway.settings import Settings
from services.isolation.pool import Nursery
from tests.conftest import Clock
from tests.conftest import wait_until as until
from tests.gateway.conftest import Ask, make_settings
from tests.gateway.peers import Peers, detection
from tests.rpc.faults import fault_of
from tests.scraping import scraped

Stub = limelight_pb2_grpc.LimelightServiceStub


@pytest.fixture
def settings(peers: Peers) -> Settings:
    return make_settings(
        peers, max_in_flight=3, default_timeout_s=300.0, metrics_listen="127.0.0.1:0"
    )


def scrape(gateway: Gateway) -> dict[str, float]:
    """The gateway's metrics by name and labels, over HTTP as Prometheus reads them."""
    found = {}
    for sample in scraped(gateway.metrics_address):
        labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
        found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def ask_for(stub: Stub, ask: Ask, **call: object) -> grpc.aio.UnaryUnaryCall:
    return stub.Segment(limelight_pb2.SegmentRequest(task=ask.phrases("cat")), **call)


async def test_a_caller_that_cancels_frees_its_place_everywhere(
    stub: Stub, peers: Peers, ask: Ask, gateway: Gateway
) -> None:
    peers.hold = asyncio.Event()
    calls = [ask_for(stub, ask) for _ in range(3)]
    await until(lambda: len(peers.asked) == 3)
    assert scrape(gateway)["limelight_in_flight"] == 3
    with pytest.raises(grpc.RpcError) as shed:
        await ask_for(stub, ask)
    fault = fault_of(shed.value)
    assert fault.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert fault.retry_after_s is not None
    assert len(peers.asked) == 3

    for call in calls:
        call.cancel()
    await until(lambda: peers.cancelled == 3)
    await until(lambda: scrape(gateway)["limelight_in_flight"] == 0)
    now = scrape(gateway)
    assert now["limelight_in_flight_bytes"] == 0
    assert now['limelight_shed_total{reason="in_flight"}'] == 1
    labels = f'grpc_method="Segment",grpc_service="{SERVICE}",grpc_type="unary"'
    handled = f'grpc_server_handled_total{{grpc_code="CANCELLED",{labels}}}'
    assert now[handled] == 3
    peers.hold.set()
    await ask_for(stub, ask)  # there is room again


async def test_a_deadline_that_passes_frees_its_place_everywhere(
    stub: Stub, peers: Peers, ask: Ask, gateway: Gateway, clock: Clock
) -> None:
    peers.hold = asyncio.Event()
    call = ask_for(stub, ask, timeout=50)
    await until(lambda: len(peers.asked) == 1)
    clock.advance(60)
    with pytest.raises(grpc.RpcError) as late:
        await call
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: peers.cancelled == 1)
    await until(lambda: scrape(gateway)["limelight_in_flight"] == 0)


async def test_a_stream_that_is_cancelled_frees_its_place(
    stub: Stub, peers: Peers, ask: Ask, gateway: Gateway
) -> None:
    peers.plan = Plan((ConceptQuery("cat"),))
    request = limelight_pb2.SegmentStreamRequest(task=ask.task("the cat"))
    stream = stub.SegmentStream(request)
    peers.hold = asyncio.Event()
    await until(lambda: peers.asked == ["plan"])
    peers.hold.set()
    first = await stream.read()
    assert first.WhichOneof("event") == "plan"
    peers.hold.clear()
    stream.cancel()
    await until(lambda: scrape(gateway)["limelight_in_flight"] == 0)


async def test_a_deadline_nobody_could_meet_is_shed(
    stub: Stub, peers: Peers, ask: Ask, gateway: Gateway, clock: Clock
) -> None:
    peers.hold = asyncio.Event()
    slow = ask_for(stub, ask, timeout=200)
    await until(lambda: len(peers.asked) == 1)
    clock.advance(100)  # the length of the only recent answer
    peers.hold.set()
    await slow
    with pytest.raises(grpc.RpcError) as shed:
        await ask_for(stub, ask, timeout=50)
    assert fault_of(shed.value).code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert fault_of(shed.value).reason == "DEADLINE_TOO_SHORT"
    assert len(peers.asked) == 1
    assert scrape(gateway)['limelight_shed_total{reason="deadline_too_short"}'] == 1


async def test_the_servers_own_time_limit(peers: Peers, ask: Ask, workers: Nursery) -> None:
    gateway = await start(make_settings(peers, default_timeout_s=0.2), workers)
    peers.hold = asyncio.Event()
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        with pytest.raises(grpc.RpcError) as late:
            await ask_for(limelight_pb2_grpc.LimelightServiceStub(channel), ask)
        fault = fault_of(late.value)
        assert (fault.code, fault.reason) == (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "DEADLINE_PASSED",
        )
    await gateway.drain()


async def test_bytes_in_flight_are_capped(peers: Peers, picture: bytes, workers: Nursery) -> None:
    gateway = await start(make_settings(peers, max_in_flight_bytes=2**20), workers)
    peers.hold = asyncio.Event()
    padded = picture + bytes(700_000)  # bytes after the end of a PNG are held all the same
    task = limelight_pb2.SegmentTask(image={"content": padded})
    task.queries.include.add(phrase="cat")
    request = limelight_pb2.SegmentRequest(task=task)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = limelight_pb2_grpc.LimelightServiceStub(channel)
        first = stub.Segment(request)
        await until(lambda: len(peers.asked) == 1)
        with pytest.raises(grpc.RpcError) as shed:
            await stub.Segment(request)
        assert fault_of(shed.value).code is grpc.StatusCode.RESOURCE_EXHAUSTED
        peers.hold.set()
        await first
    await gateway.drain()


async def test_drain_lets_running_calls_finish_and_takes_no_new_ones(
    peers: Peers, ask: Ask, workers: Nursery
) -> None:
    gateway = await start(make_settings(peers, drain_s=60.0), workers)
    peers.things = {"cat": [detection(0, 0, 9, 9)]}
    peers.hold = asyncio.Event()
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = limelight_pb2_grpc.LimelightServiceStub(channel)
        running = ask_for(stub, ask)
        await until(lambda: len(peers.asked) == 1)
        draining = asyncio.create_task(gateway.drain())
        await until(lambda: gateway.draining)
        with pytest.raises(grpc.RpcError) as refused:
            await ask_for(stub, ask)
        # By the gateway, or by grpc's server as it stops: clients repeat the call in any case.
        error = from_rpc(refused.value, "")
        assert error.safe_to_retry or error.lost
        peers.hold.set()
        response = await running
        assert len(response.result.instances) == 1
        await draining
    assert len(peers.asked) == 1


async def test_a_connection_ends_at_its_age(peers: Peers, workers: Nursery) -> None:
    gateway = await start(make_settings(peers, connection_age_s=1), workers)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        await channel.channel_ready()
        async with asyncio.timeout(60):
            await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
    await gateway.drain()


@pytest.mark.slow
async def test_nobody_notices_that_connections_end_and_gateways_change(
    peers: Peers, picture: bytes, workers: Nursery
) -> None:
    """Calls in a row, while connections reach their age and the gateway is replaced by another."""
    peers.things = {"cat": [detection(0, 0, 9, 9)]}
    first = await start(make_settings(peers, connection_age_s=1), workers)
    answered = 0
    loading = True

    async def call_on(client: AsyncClient) -> None:
        nonlocal answered
        while loading:
            answered += len((await client.segment(picture, phrases=["cat"])).instances)

    patient = RetryPolicy(attempts=20, first_delay=0.05)
    async with AsyncClient(first.address, retry=patient) as client:
        callers = [asyncio.create_task(call_on(client)) for _ in range(4)]
        await asyncio.sleep(3)  # thrice the age
        await first.drain()
        second = await start(make_settings(peers, listen=first.address), workers)
        goal = answered + 20
        await until(lambda: answered >= goal)
        loading = False
        await asyncio.gather(*callers)
    await second.drain()


@pytest.mark.slow
async def test_nobody_notices_that_one_of_two_gateways_at_an_address_leaves(
    peers: Peers, picture: bytes, workers: Nursery
) -> None:
    peers.things = {"cat": [detection(0, 0, 9, 9)]}
    shared = {"share_port": True, "direct_listen": "127.0.0.1:0"}
    first = await start(make_settings(peers, **shared), workers)
    second = await start(make_settings(peers, listen=first.address, **shared), workers)
    assert second.address == first.address
    assert len({first.address, first.direct_address, second.direct_address}) == 3
    answered, loading = 0, True

    async def call_on(client: AsyncClient) -> None:
        nonlocal answered
        while loading:
            answered += len((await client.segment(picture, phrases=["cat"])).instances)

    def images(gateway: Gateway) -> float:
        return gateway.metrics.registry.get_sample_value("limelight_images_total") or 0

    async with AsyncClient(first.address) as client:
        callers = [asyncio.create_task(call_on(client)) for _ in range(4)]
        await until(lambda: images(first) or images(second))
        called, other = (first, second) if images(first) else (second, first)
        await called.drain()
        goal = answered + 20
        await until(lambda: answered >= goal)
        loading = False
        await asyncio.gather(*callers)
    assert images(other) >= 16
    async with grpc.aio.insecure_channel(other.direct_address) as channel:
        assert await health_of(channel, "") == [True]
    await other.drain()


@pytest.mark.slow
async def test_a_stream_outlives_the_age_of_its_connection(
    peers: Peers, picture: bytes, workers: Nursery
) -> None:
    peers.things = {"cat": [detection(0, 0, 9, 9)]}
    peers.plan = Plan((ConceptQuery("cat"),))
    gateway = await start(make_settings(peers, connection_age_s=1), workers)
    peers.hold = asyncio.Event()
    async with AsyncClient(gateway.address) as client:
        events = client.segment_stream(picture, "the cat")
        first = asyncio.create_task(anext(events))
        await until(lambda: peers.asked == ["plan"])
        await asyncio.sleep(3)  # thrice the age
        peers.hold.set()
        kinds = [type(await first), *[type(event) async for event in events]]
    assert kinds[0] is PlanMade
    assert kinds[-1] is Done
    await gateway.drain()


async def test_health_follows_the_peers(
    gateway: Gateway, channel: grpc.aio.Channel, peers: Peers
) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    alive = await stub.Check(health_pb2.HealthCheckRequest(service=""))
    assert alive.status == health_pb2.HealthCheckResponse.SERVING
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    async with asyncio.timeout(60):
        while (await watch.read()).status != health_pb2.HealthCheckResponse.SERVING:
            pass
    watch.cancel()


async def test_without_peers_the_public_service_is_not_serving(
    peers: Peers, workers: Nursery
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
        gateway = await start(make_settings(peers, segmenter_address=nobody), workers)
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            ready = await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE))
            assert ready.status == health_pb2.HealthCheckResponse.NOT_SERVING
        await gateway.drain()


async def health_of(channel: grpc.aio.Channel, *services: str) -> list[bool]:
    stub = health_pb2_grpc.HealthStub(channel)
    found = [await stub.Check(health_pb2.HealthCheckRequest(service=name)) for name in services]
    return [answer.status == health_pb2.HealthCheckResponse.SERVING for answer in found]


@pytest.mark.slow
async def test_without_a_planner_calls_with_queries_are_answered(
    peers: Peers, ask: Ask, workers: Nursery
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
        gateway = await start(make_settings(peers, planner_address=nobody), workers)
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            stub = Stub(channel)
            await ask_for(stub, ask, wait_for_ready=True)
            async with asyncio.timeout(60):
                while not (await health_of(channel, "segmenter"))[0]:
                    pass
            assert await health_of(channel, "", "segmenter") == [True, True]
            assert await health_of(channel, "planner", SERVICE) == [False, False]
            with pytest.raises(grpc.RpcError) as away:
                await stub.Segment(limelight_pb2.SegmentRequest(task=ask.task("the cat")))
            assert fault_of(away.value).reason == "PLANNER_UNAVAILABLE"
        await gateway.drain()


async def test_calls_are_refused_at_once_while_no_replica_answers(
    peers: Peers, ask: Ask, workers: Nursery
) -> None:
    peers.hold, peers.alive = asyncio.Event(), False
    gateway = await start(make_settings(peers, silence_s=0.2), workers)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = Stub(channel)
        first = ask_for(stub, ask)
        async with asyncio.timeout(60):
            while await refused(ask_for(stub, ask, timeout=0.5)) is None:
                pass
        with pytest.raises(grpc.RpcError) as away:
            await ask_for(stub, ask)
        fault = fault_of(away.value)
        assert (fault.code, fault.reason) == (
            grpc.StatusCode.UNAVAILABLE,
            "SEGMENTER_UNAVAILABLE",
        )
        assert fault.retry_after_s == pytest.approx(0.2)
        # The replica comes back: who has waited is answered, and so is who comes now.
        peers.alive = True
        peers.hold.set()
        await first
        await ask_for(stub, ask)
    await gateway.drain()


async def refused(call: grpc.aio.UnaryUnaryCall) -> str | None:
    """The reason a call was refused for; None if it got no answer in its time."""
    with pytest.raises(grpc.RpcError) as caught:
        await call
    late = caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    return None if late else fault_of(caught.value).reason


async def test_reflection_describes_the_public_service(channel: grpc.aio.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)

    async def ask() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)

    answers = [answer async for answer in stub.ServerReflectionInfo(ask())]
    names = {service.name for service in answers[0].list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names
    assert answers[1].file_descriptor_response.file_descriptor_proto


async def test_every_metric_moves_under_load(
    stub: Stub, peers: Peers, ask: Ask, gateway: Gateway
) -> None:
    peers.things = {"cat": [detection(0, 0, 9, 9)]}
    peers.plan = Plan((ConceptQuery("cat"),), review=True)
    before = scrape(gateway)
    task = ask.task("the cat", renders=[{"kind": 1}])
    await stub.Segment(limelight_pb2.SegmentRequest(task=task))
    after = scrape(gateway)
    labels = f'grpc_method="Segment",grpc_service="{SERVICE}",grpc_type="unary"'
    peer = (
        'grpc_method="SegmentConcepts",grpc_service="limelight.internal.v1.SegmenterService",'
        'grpc_type="unary"'
    )
    moved = [
        f"grpc_server_started_total{{{labels}}}",
        f'grpc_server_handled_total{{grpc_code="OK",{labels}}}',
        f"grpc_server_msg_received_total{{{labels}}}",
        f"grpc_server_msg_sent_total{{{labels}}}",
        f"grpc_server_handling_seconds_count{{{labels}}}",
        f"grpc_client_started_total{{{peer}}}",
        f'grpc_client_handled_total{{grpc_code="OK",{peer}}}',
        f"grpc_client_handling_seconds_count{{{peer}}}",
        'limelight_plans_total{outcome="ok"}',
        "limelight_review_rounds_total",
        'limelight_review_verdicts_total{verdict="accepted"}',
        "limelight_images_total",
        "limelight_instances_total",
        *(
            f'limelight_stage_seconds_count{{stage="{stage}"}}'
            for stage in ("read", "plan", "segment", "review", "select", "render")
        ),
    ]
    still = [name for name in moved if after.get(name, 0) <= before.get(name, 0)]
    assert not still


def test_a_taken_port_is_said_plainly() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = subprocess.run(
            [sys.executable, "-m", "services.gateway"],
            env={"LIMELIGHT_GATEWAY_LISTEN": address, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert result.returncode == 1
    assert f"cannot listen on {address}" in result.stderr


def test_the_gateway_imports_no_model_library() -> None:
    code = (
        "import sys, services.gateway.__main__, services.gateway.app\n"
        "heavy = {'torch', 'ray', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
