"""Malformed and hostile videos: typed errors or the right frames, in bounded time and memory."""

import contextlib
import io
import itertools
import json
import os
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import pytest

from services.codecs.videos import pyav
from services.codecs.videos.demux import Demuxer
from services.codecs.videos.limits import VIDEO_CONTENT
from services.codecs.videos.spool import Spool
from services.errors import Reason, ServiceError, TooLarge
from tests.codecs.videos.clips import KINDS
from tests.codecs.videos.hostile import LIMITS, HostileVideo, hostile_videos, through

HOSTILE = list(hostile_videos())


def test_there_are_enough_of_them() -> None:
    names = [video.name for video in HOSTILE]
    assert len(set(names)) == len(names) >= 100


@pytest.mark.parametrize("video", HOSTILE, ids=lambda video: video.name)
def test_it_ends_in_a_typed_error_or_in_frames(video: HostileVideo) -> None:
    started = time.thread_time()
    frames, error = through(video.data)
    spent = time.thread_time() - started
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})
    times = [frame.time_s for frame in frames]
    assert times == sorted(set(times))
    assert all(0 <= moment <= LIMITS.max_seconds for moment in times)
    assert len({frame.pixels.shape for frame in frames}) <= 1
    if error is None:
        assert video.may_pass, f"{len(frames)} frames came to the end"
        assert frames
    else:
        assert error.reason in video.reasons, error.message
        assert error.field == VIDEO_CONTENT
        assert error.message.isprintable()
        assert len(error.message) < 300
    assert spent < 10  # of this thread alone; most take some milliseconds


def test_all_of_them_take_little_memory_and_say_nothing(tmp_path: Path) -> None:
    """In a process whose memory is capped: a bomb would end it, or show in its peak."""
    for number, video in enumerate(HOSTILE):
        (tmp_path / f"{number:03} {video.name}").write_bytes(video.data)
    code = """
import json, resource, sys
from pathlib import Path
from tests.codecs.videos.hostile import through
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
status = Path("/proc/self/status")  # getrusage's peak may be that of the parent
peak = lambda: int(status.read_text().partition("VmHWM:")[2].split()[0]) // 1024
before = peak()
grown = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    data = path.read_bytes()
    at = peak()
    through(data)
    grown[path.name] = peak() - at
most = sorted(grown.items(), key=lambda item: -item[1])[:5]
print(json.dumps({"before_mb": before, "grown_mb": peak() - before, "most": most}))
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    figures = json.loads(result.stdout)
    print(figures)
    assert figures["grown_mb"] < 400, figures
    assert result.stderr == ""  # libav's own log is silent


def moved(part: bytes, frame: int) -> bytes:
    """A fragment of an MP4 that begins with that frame; a cluster of a WebM as it is."""
    at = part.find(b"tfdt")
    return part if at < 0 else part[: at + 8] + struct.pack(">Q", 512 * frame) + part[at + 16 :]


@pytest.mark.parametrize("kind", ["webm-vp9", "mp4-fragmented"])
@pytest.mark.parametrize(
    ("max_bytes", "reason"),
    [(64 << 20, Reason.VIDEO_TOO_LONG), (20_000, Reason.VIDEO_TOO_LARGE)],
)
def test_an_endless_stream_is_cut_by_a_limit(kind: str, max_bytes: int, reason: Reason) -> None:
    """A sender that never ends: by frames while it sends, or by bytes."""
    data = KINDS[kind].make()
    # What is repeated: the last cluster, or the last fragment.
    if kind == "webm-vp9":
        at, end = data.rindex(b"\x1f\x43\xb6\x75"), data.index(b"\x1c\x53\xbb\x6b")
        end = end if end > at else len(data)
    else:
        at, end = data.rindex(b"moof") - 4, data.rindex(b"mfra") - 4
    with Spool(max_bytes, memory_bytes=1 << 16) as spool, ThreadPoolExecutor(1) as pool:

        def send() -> None:
            with contextlib.suppress(ServiceError):
                spool.write(data[:end])
                for frame in itertools.count(40, 12):
                    spool.write(moved(data[at:end], frame))

        sending = pool.submit(send)
        found: list[int] = []
        with pytest.raises(TooLarge) as caught, Demuxer(spool, LIMITS) as demuxer:
            found.extend(gop.frames for gop in demuxer.gops())
        assert caught.value.reason is reason
        assert sum(found) <= LIMITS.max_frames
        spool.close()
        sending.result(30)


def test_nothing_is_opened_but_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What videos refer to is a pipe, on which whoever opened it would wait for ever."""
    pipe = tmp_path / "secret.mp4"
    os.mkfifo(pipe)
    concat = f"ffconcat version 1.0\nfile '{pipe}'\n"
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{pipe}\n#EXT-X-ENDLIST\n",
        concat,
        f"file '{pipe}'\n",
        f"<MPD><BaseURL>file://{pipe}</BaseURL></MPD>",
    ):
        _, error = through(text.encode())
        assert error is not None
        assert error.reason is Reason.VIDEO_UNSUPPORTED
    # Were a playlist's format ever forced, libav could still open nothing.
    monkeypatch.setitem(pyav.FORMATS, "concat", "concat")
    forced = pyav.WatchedFile(io.BytesIO(concat.encode()), seekable=True)
    with pytest.raises((av.FFmpegError, PermissionError)):
        list(pyav.open_input(forced, "concat", LIMITS).demux())
