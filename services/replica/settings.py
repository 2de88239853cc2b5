"""What can be set about every model replica.

One vocabulary: seconds (`*_s`), bytes, bounds (`max_*`), `*_threads`. A service's own settings
derive from this and add what only it has. Free of torch and ray.
"""

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MiB = 1024 * 1024


class ReplicaSettings(BaseSettings):
    """Read once at start and handed to whoever needs it; nothing else reads the environment."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True
    )

    revision: str | None = None
    """Commit, tag or branch of a hub id. Unset: its main branch. Ignored for a folder."""
    device: str = "auto"
    """A torch device (`cpu`, `cuda:1`). `auto`: the first GPU, or the CPU where there is none."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of weights and activations. `auto`: the engine's choice; float32 on a CPU."""
    threads: int = Field(default=1, ge=0)
    """torch's CPU threads. More than the free cores makes a step many times slower. 0: torch's
    choice."""

    batch_wait_s: float = Field(default=0.005, ge=0, le=1)
    """How long a batch waits for company while requests arrive together; never when idle."""
    decode_threads: int = Field(default=2, ge=1)
    """Threads that decode images, or wait for the processes that do."""
    isolated_decoding: bool = True
    """Whether images are decoded in processes of their own, which may crash. False: in threads,
    some milliseconds quicker; for pictures that are known to be harmless."""
    decode_memory_bytes: int = Field(default=2048 * MiB, ge=64 * MiB)
    """What such a process may take, beyond what it starts with, before its request is refused."""
    max_image_bytes: int = Field(default=32 * MiB, ge=1)
    """Largest encoded image."""
    max_image_pixels: int = Field(default=50_000_000, ge=1)
    """Largest decoded image, pixels; checked from its header before it is decoded."""

    max_ongoing_requests: int = Field(default=64, ge=1)
    """Requests a replica holds at once; Ray Serve queues the rest."""
    max_queued_requests: int = Field(default=512, ge=-1)
    """Requests Serve may queue before a replica has room; loose, since each of its routers counts
    for itself, and refuses more than it should when exact. -1: no bound."""
    max_failed_batches: int = Field(default=3, ge=1)
    """Batches that fail one after the other before the replica reports itself unhealthy."""
    min_replicas: int = Field(default=1, ge=0)
    """Replicas there always are. 0: the first call after a quiet time waits for a cold start."""
    max_replicas: int = Field(default=1, ge=1)
    """Replicas at most. Above `min_replicas`, the work that comes in decides how many."""
    scaling_headroom: float = Field(default=1.5, ge=0)
    """Where replicas scale: room for jumps of the load beyond what one replica takes, in standard
    deviations of the work. Higher: shorter waits when it jumps, more replicas at all times."""

    target_utilization: float = Field(default=0.7, gt=0, le=1)
    """The share of its time that a replica should be busy, where their number follows the work."""
    cold_start_s: float = Field(default=90.0, gt=0)
    """From asking for a replica to its first answer, a node's start and the loading of weights
    counted in."""
    keep_replicas_s: float = Field(default=300.0, ge=0)
    """How long replicas stay after they were last needed."""
    replica_cpus: float = Field(default=1.0, ge=0)
    """CPUs that Ray reserves for a replica."""
    replica_gpus: float = Field(default=0.0, ge=0)
    """GPUs that Ray reserves for a replica."""
    drain_s: float = Field(default=60.0, ge=0)
    """How long a replica that is being stopped may go on answering what it has begun."""
    otlp_endpoint: str = ""
    """An OTLP receiver that traces go to, over gRPC: host:port. Empty: none. Which requests are
    traced is the gateway's to say."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe log records that are written, as JSON lines."""

    fake_delay_s: float = Field(default=0.0, ge=0, le=60)
    """How long each step of the `fake` engine takes, for tests of queues; the first of a kind, the
    warm-up, takes no time."""

    @model_validator(mode="after")
    def _replicas_fit(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas is {self.min_replicas}, above max_replicas, {self.max_replicas}"
            )
        return self
