import io

import numpy as np

from loadtest.video.footage import GOP, RATE, footage
from services.codecs.images import ImageLimits, decode
from services.codecs.videos.decode import VideoDecoder
from services.codecs.videos.demux import Demuxer
from training.world.splits import VALIDATION


def test_a_clip_goes_forth_and_back_over_what_was_drawn() -> None:
    clip = footage(VALIDATION[0], (96, 64), frames=2 * GOP + 2, drawn=9)
    with Demuxer(io.BytesIO(clip.content)) as demuxer:
        gops = list(demuxer.gops())
        decoder = VideoDecoder(demuxer.header)
        frames = [frame for gop in gops for frame in decoder.decode(gop)]
        frames += decoder.flush()
    assert [gop.first_frame for gop in gops] == [0, GOP, 2 * GOP]
    assert [frame.index for frame in frames] == list(range(clip.frames))
    assert frames[-1].time_s == (clip.frames - 1) / RATE

    def differ(a: int, b: int) -> float:
        return float(np.abs(frames[a].pixels.astype(int) - frames[b].pixels).mean())

    # Sixteen frames make a round; what differs of one picture is the file's own loss.
    for number in range(8):
        assert differ(number, number + 16) < differ(number, number + 8)
    assert differ(7, 9) < differ(7, 1)
    assert 1 <= len(clip.phrases) <= 2
    assert decode(clip.picture, ImageLimits()).shape == (64, 96, 3)
