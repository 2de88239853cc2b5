"""What the segmenter's tests share: recorded metrics, drawn pictures, a tiny random SAM 3."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from services.codecs.images import encode
from services.replica.metrics import RecordedMetrics
from services.segmenter.engines import SegmenterEngine, create
from services.segmenter.segmenting import Segmenter
from services.segmenter.settings import SegmenterSettings

Painter = Callable[..., bytes]
Opener = Callable[..., Segmenter]
# A process that decodes takes half a second to begin, in each of these tests.
THREADS = {"engine": "fake", "isolated_decoding": False}


@pytest.fixture
def paint() -> Painter:
    """A PNG of `height` x `width` in white, with filled boxes (x0, y0, x1, y1, rgb)."""

    def draw(*boxes: tuple[int, int, int, int, tuple[int, int, int]], size=(120, 160)) -> bytes:
        pixels = np.full((*size, 3), 255, np.uint8)
        for x0, y0, x1, y1, color in boxes:
            pixels[y0:y1, x0:x1] = color
        return encode(pixels)

    return draw


@pytest_asyncio.fixture
async def open_segmenter(metrics: RecordedMetrics) -> AsyncIterator[Opener]:
    """Make segmenters, by settings or with an engine of the test's own, and close them."""
    opened: list[Segmenter] = []

    def make(given: SegmenterEngine | None = None, **settings: object) -> Segmenter:
        chosen = SegmenterSettings(**{**THREADS, **settings})
        engine = given or create(chosen)
        if given is None:
            engine.load()
        opened.append(Segmenter(chosen, engine, metrics))
        return opened[-1]

    yield make
    for segmenter in opened:
        await segmenter.close()


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `Sam3Model` of random weights and its tokenizer, saved to a folder in several shards.

    Weights are larger than a fresh model's, so that masks, scores and presence differ between
    images and queries, and a mix-up shows.
    """
    import torch
    from transformers import Sam3Model

    from training.segmenter.config import MAX_TEXT_TOKENS, tiny_config
    from training.segmenter.tokenizer import special_tokens, train_tokenizer

    phrases = ["red apple", "cat", "dog", "soccer ball", "umbrella", "visual"]
    tokenizer = train_tokenizer(phrases, [], 700, MAX_TEXT_TOKENS)
    torch.manual_seed(0)
    # More tokens than any tokenizer here has, so that the checkpoint can be run with another's.
    model = Sam3Model(tiny_config(4096, special_tokens(tokenizer))).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=1.4 / parameter[0].numel() ** 0.5)
            elif name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
    folder = tmp_path_factory.mktemp("sam3")
    model.save_pretrained(folder, max_shard_size="2MB")
    tokenizer.save_pretrained(folder)
    return folder
