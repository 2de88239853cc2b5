"""The gateway's settings, read once at start from `LIMELIGHT_GATEWAY_*`."""

from ipaddress import IPv4Network, IPv6Network, ip_network

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.codecs.videos.limits import DEFAULT_VIDEO_LIMITS

Network = IPv4Network | IPv6Network


class Settings(BaseSettings):
    """Every knob of the gateway; `python -m services.gateway --help` prints them."""

    model_config = SettingsConfigDict(env_prefix="LIMELIGHT_GATEWAY_", frozen=True)

    listen: str = Field("127.0.0.1:50551", description="host:port of the gRPC server; port 0: any")
    share_port: bool = Field(
        False,
        description="whether other gateways of the same user may listen at this port too, each for "
        "a share of the connections (SO_REUSEPORT)",
    )
    direct_listen: str = Field(
        "",
        description="host:port at which this gateway alone can be reached besides, as where a port "
        "is shared; port 0: any; empty: none",
    )
    metrics_listen: str = Field(
        "127.0.0.1:9464", description="host:port of /metrics; port 0: any; empty: none"
    )
    planner_address: str = Field(
        "127.0.0.1:9000",
        description="host:port of the planner, or a gRPC target: dns:///planner-pods:9000",
    )
    segmenter_address: str = Field(
        "127.0.0.1:9000", description="host:port of the segmenter, or a gRPC target"
    )
    tracker_address: str = Field(
        "", description="host:port of the tracker, or a gRPC target; empty: there is none"
    )
    planner_application: str = Field("planner", description="the planner's Ray Serve application")
    segmenter_application: str = Field(
        "segmenter", description="the segmenter's Ray Serve application"
    )
    tracker_application: str = Field("tracker", description="the tracker's Ray Serve application")
    channels: int = Field(
        4,
        ge=1,
        le=64,
        description="channels to a service; each is connected to every address of its name",
    )
    channel_renew_s: float = Field(
        20.0,
        gt=0,
        description="age at which a channel is replaced, to learn of pods that came since",
    )
    connection_age_s: float = Field(
        30.0,
        ge=1,
        description="age at which a client's connection is closed, its calls finished first, so "
        "that the client finds gateways that have come and leaves one that is to go",
    )
    connection_idle_s: float = Field(
        300.0, gt=0, description="a connection without calls is closed after so long"
    )
    handshake_s: float = Field(
        10.0,
        gt=0,
        description="a connection that has not said by then that it speaks HTTP/2 is closed",
    )
    max_connections: int = Field(
        1024, ge=1, description="connections at once; more are closed as soon as they are made"
    )
    max_connection_streams: int = Field(
        4096,
        ge=1,
        description="calls of a connection at once; clients keep more until there is room, and "
        "gRPC refuses the rest without a reason. Fewer bound what a flood of resets costs others",
    )
    max_uploads: int = Field(
        512,
        ge=1,
        description="requests at once that have begun and are not whole; one more takes the place "
        "of the one that has taken longest",
    )
    max_upload_bytes: int = Field(
        256 * 2**20,
        ge=2**20,
        description="what may be held of such requests; those of the connections that hold most "
        "are shed",
    )
    upload_s: float = Field(30.0, gt=0, description="time for a request to be whole")
    max_address_connections: int = Field(
        0,
        ge=0,
        description="connections with calls that one client address may have; 0: no bound. Behind "
        "a proxy, all callers have its address",
    )
    max_address_calls: int = Field(
        0, ge=0, description="calls that one client address may have open; 0: no bound"
    )
    max_address_upload_bytes: int = Field(
        0,
        ge=0,
        description="what may be held of the requests of one client address that have begun and "
        "are not whole; 0: no bound",
    )
    free_addresses: str = Field(
        "",
        description="addresses and networks, with commas between them, that those three do not "
        "bound, as proxies have them: 10.0.0.0/8,192.168.7.4",
    )
    max_in_flight: int = Field(128, ge=1, description="calls worked on at once; more are shed")
    refusal_share: float = Field(
        0.25,
        gt=0,
        le=1,
        description="of one core, what turning calls away may take: beyond it they wait for their "
        "refusal, which slows down callers that come back at once",
    )
    max_in_flight_bytes: int = Field(
        512 * 2**20, ge=2**20, description="image bytes held at once; more are shed"
    )
    max_message_bytes: int = Field(
        64 * 2**20, ge=2**20, description="one gRPC message: an image and a background, with room"
    )
    max_image_bytes: int = Field(32 * 2**20, ge=1024, description="one encoded image")
    max_image_pixels: int = Field(50_000_000, ge=1024, description="one decoded image")
    max_instruction_chars: int = Field(1000, ge=1, description="length of an instruction")
    max_queries: int = Field(32, ge=1, description="queries a call, `exclude` counted in")
    max_exemplars: int = Field(16, ge=1, description="exemplars a query")
    max_instances: int = Field(200, ge=1, description="instances an answer")
    max_review_candidates: int = Field(
        64, ge=1, description="candidates one review looks at, best scores first"
    )
    max_streams: int = Field(16, ge=1, description="videos tracked at once; more are refused")
    max_track_objects: int = Field(
        64, ge=1, description="most objects tracked at once, whatever the caller asks"
    )
    max_stride: int = Field(1000, ge=1, description="frames between two that are tracked")
    max_frame_window: int = Field(
        1024, ge=1, description="frames that a client may have under way to it"
    )
    max_changes: int = Field(256, ge=0, description="changes of the prompts of a video")
    max_video_bytes: int = Field(2**30, ge=2**20, description="a video file")
    max_video_pixels: int = Field(
        DEFAULT_VIDEO_LIMITS.max_pixels, ge=1, description="one frame of a video"
    )
    max_video_side: int = Field(
        DEFAULT_VIDEO_LIMITS.max_side, ge=1, description="longer side of a video's frames, pixels"
    )
    max_video_frames: int = Field(
        DEFAULT_VIDEO_LIMITS.max_frames, ge=1, description="frames of a video, tracked or not"
    )
    max_video_seconds: float = Field(
        DEFAULT_VIDEO_LIMITS.max_seconds, gt=0, description="length of a video"
    )
    max_replans: int = Field(
        4, ge=0, description="plans of a video after its first, on scene cuts and lost targets"
    )
    lost_s: float = Field(
        3.0, gt=0, description="seconds of video without any target that make them lost"
    )
    stream_s: float = Field(
        14_400.0, gt=0, description="time for a video whose caller sets no deadline, and the most"
    )
    stream_idle_s: float = Field(
        60.0,
        gt=0,
        description="a client that is waited for and sends nothing for so long is given up",
    )
    resume_s: float = Field(
        60.0, gt=0, description="how long a stream that was cut is kept for its client"
    )
    redis_url: str = Field(
        "",
        pattern=r"^$|^(redis|rediss|unix)://",
        description="Redis or Valkey that streams are written to, for another gateway to go on "
        "with them: redis://host:port/0, or rediss:// for TLS; empty: only this one can",
    )
    redis_password: SecretStr = Field(SecretStr(""), description="its password, if it has one")
    shared_stream_bytes: int = Field(
        32 * 2**20, ge=2**16, description="bytes that are written there of a stream, at most"
    )
    kept_streams: int = Field(
        64, ge=1, description="streams that are kept for clients that may come back"
    )
    kept_frame_bytes: int = Field(
        8 * 2**20,
        ge=0,
        description="answered frames that are kept for a client that gives no credits",
    )
    intake_ahead_bytes: int = Field(
        16 * 2**20, ge=2**20, description="bytes of a video taken before they can be worked on"
    )
    session_attempts: int = Field(
        3, ge=1, description="sessions that may end in a row without a frame before a video fails"
    )
    tracker_away_s: float = Field(
        120.0, ge=0, description="how long a video that is under way waits for a tracker"
    )
    score_threshold: float = Field(0.5, ge=0, le=1, description="where the caller gives none")
    default_timeout_s: float = Field(
        120.0, gt=0, description="time for a call whose caller sets no deadline"
    )
    max_timeout_s: float = Field(3600.0, gt=0, description="a caller's longer deadline is cut")
    peer_attempts: int = Field(
        4, ge=1, description="tries of a call to the planner or segmenter that was UNAVAILABLE"
    )
    silence_s: float = Field(
        5.0,
        gt=0,
        description="calls that wait so long without any answer make the gateway ask a service for "
        "a sign of life; without one in that time again, new calls are refused at once",
    )
    threads: int = Field(4, ge=1, description="threads that select and write masks")
    decode_workers: int = Field(
        2, ge=1, le=64, description="processes that read images: their headers and their pixels"
    )
    render_workers: int = Field(
        2, ge=1, le=64, description="processes that draw the pictures of answers"
    )
    worker_memory_bytes: int = Field(
        2 * 2**30,
        ge=2**26,
        description="what such a process may take, beyond what it starts with, before its request "
        "is refused",
    )
    worker_s: float = Field(
        60.0, gt=0, description="time for one job of theirs, even if its caller has more"
    )
    pixel_cpu_s: float = Field(
        0.25,
        gt=0,
        description="processor seconds a megapixel, besides two, after which a job is ended; a "
        "photo takes a tenth of it",
    )
    video_cpu_s: float = Field(
        60.0,
        gt=0,
        description="processor seconds for one step in reading a video file: to its first picture, "
        "or to its next key frame; beyond it the video is refused",
    )
    max_render_pixels: int = Field(
        4_000_000_000,
        ge=2**20,
        description="the pictures of an answer, times the image's pixels, times one more than its "
        "instances; more are refused before they are drawn",
    )
    drain_s: float = Field(
        30.0, ge=0, description="after SIGTERM: time for running calls before they are cut"
    )
    reflection: bool = Field(True, description="whether the server describes itself")
    otlp_endpoint: str = Field(
        "", description="host:port of an OTLP receiver that traces go to, over gRPC; empty: none"
    )
    trace_ratio: float = Field(
        1.0, ge=0, le=1, description="share of the requests to trace, where the caller does not say"
    )
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")

    @field_validator("free_addresses")
    @classmethod
    def _networks(cls, value: str) -> str:
        _parsed(value)  # raises ValueError, which names the network
        return value

    @property
    def free_networks(self) -> tuple[Network, ...]:
        """`free_addresses`, parsed."""
        return _parsed(self.free_addresses)


def _parsed(networks: str) -> tuple[Network, ...]:
    return tuple(ip_network(each.strip()) for each in networks.split(",") if each.strip())
