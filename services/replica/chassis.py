"""The chassis of every model replica on Ray Serve: load, warm up, answer, report health, drain.

A service derives `ModelReplica`, says how its model service is opened, and adds its RPC methods,
which only translate; `application` deploys it with the settings that all share.
"""

import asyncio
import gc
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Generic, Protocol, TypeVar

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from limelight.internal.v1 import replica_pb2
from services import logs
from services.replica.metrics import RayInstruments, ServeMetrics
from services.replica.scaling import WorkPolicy
from services.replica.settings import ReplicaSettings
from services.rpc.metadata import CallContext
from services.rpc.methods import rpcs
from services.rpc.metrics import RpcMetrics
from services.rpc.serve import ingress
from services.rpc.tracing import TRACING


class ModelService(Protocol):
    """What a replica hosts: the work behind its RPCs, free of Ray and protobuf."""

    def check(self) -> None:
        """Raise `Unavailable` if it cannot work any more."""

    async def close(self) -> None:
        """Answer what was begun, refuse the rest as DRAINING, and let go of the model."""


S = TypeVar("S", bound=ModelService)
# How often replicas publish their work.
_REPORT_S = 5.0
# Between two health checks. Serve replaces a replica after three that fail, by default half a
# minute after its device is lost: so it is 6 s. One that does not answer has 30 s for each.
_HEALTH_CHECK_S = 2.0
_CHECK = rpcs(replica_pb2, "ReplicaService")["Check"]


class ModelReplica(Generic[S]):
    """One replica. Serve sends it calls once `__init__` is done, so only with a model that works.

    A deployment's class derives from it and defines `open_service`.
    """

    async def __init__(self, settings: ReplicaSettings) -> None:  # type: ignore[misc]  # Serve awaits it
        self._closing = AsyncExitStack()  # first: Serve calls `__del__` also when a load fails
        # The real stream: Serve puts one in its place that buffers a thousand lines in memory.
        fields = _replica_fields()
        logs.configure(settings.log_level, sys.__stderr__, **fields)
        TRACING.configure(settings.otlp_endpoint, f"limelight-{fields['application']}", 1.0)
        self._closing.callback(TRACING.close)
        self.rpc_metrics = RpcMetrics(RayInstruments(), "server")
        with _garbage_kept():
            self.service, metrics = await asyncio.to_thread(self.open_service, settings)
        self._work = metrics.work
        self._closing.push_async_callback(self.service.close)
        refreshing = asyncio.create_task(metrics.refresh())
        self._closing.callback(refreshing.cancel)

    def open_service(self, settings: Any) -> tuple[S, ServeMetrics]:
        """The service, its model loaded and warmed up, and the metrics it writes.

        Runs in a thread. Torch is imported here, where the model runs, and not where the
        application is built.
        """
        raise NotImplementedError

    async def check_health(self) -> None:
        """Called by Serve, which replaces the replica when this raises."""
        self.service.check()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Serve every few seconds, for the scaling policy."""
        return self._work.figures(self.rpc_metrics.handled)

    @ingress(_CHECK)
    async def Check(  # noqa: N802
        self, request: replica_pb2.CheckRequest, call: CallContext
    ) -> replica_pb2.CheckResponse:
        """Asked by a gateway whose calls have waited without an answer."""
        self.service.check()
        return replica_pb2.CheckResponse()

    async def __del__(self) -> None:
        """Called by Serve once no request is under way."""
        await self._closing.aclose()


def application(
    replica: type[ModelReplica[Any]],
    name: str,
    settings: ReplicaSettings,
    policy: AutoscalingPolicy | None = None,
) -> serve.Application:
    """The Serve application of one deployment of `replica`, called `name`.

    Args:
        policy: how many replicas are needed, where `settings` leave it open; unset: as many as the
            work asks for that they see.
    """
    deployment = serve.deployment(
        replica,
        name=name,
        max_ongoing_requests=settings.max_ongoing_requests,
        max_queued_requests=settings.max_queued_requests,
        **_replicas(settings, policy or _by_work(settings)),
        graceful_shutdown_timeout_s=settings.drain_s,
        health_check_period_s=_HEALTH_CHECK_S,
        ray_actor_options={
            "num_cpus": settings.replica_cpus,
            "num_gpus": settings.replica_gpus,
        },
    )
    return deployment.bind(settings)


def _by_work(settings: ReplicaSettings) -> AutoscalingPolicy:
    return AutoscalingPolicy(
        policy_function=WorkPolicy,
        policy_kwargs={
            "utilization": settings.target_utilization,
            "headroom": settings.scaling_headroom,
            "cold_start_s": settings.cold_start_s,
            "keep_s": settings.keep_replicas_s,
        },
    )


def _replicas(settings: ReplicaSettings, policy: AutoscalingPolicy) -> dict[str, Any]:
    """How many replicas the deployment has: a fixed number, or what the policy says."""
    if settings.min_replicas == settings.max_replicas:
        return {"num_replicas": settings.max_replicas}
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=settings.min_replicas,
            max_replicas=settings.max_replicas,
            policy=policy,
            # The policy itself decides what to wait for.
            upscale_delay_s=0,
            downscale_delay_s=0,
            look_back_period_s=_REPORT_S,
            metrics_interval_s=_REPORT_S,
        )
    }


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Import and load without the garbage collector, which would find next to nothing to free.

    Its passes over half a million young objects take a sixth of a start's CPU. Serve collects once,
    and freezes what is left, when the replica is up.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _replica_fields() -> dict[str, str]:
    """What every log line says of the replica that wrote it."""
    context = serve.get_replica_context()
    return {
        "application": context.app_name,
        "deployment": context.deployment,
        "replica": str(context.replica_id.unique_id),
    }
