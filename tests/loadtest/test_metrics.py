import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from loadtest.metrics import difference, scrape, settled

PAGE = """\
# HELP ray_limelight_batch_size Items in a batch.
# TYPE ray_limelight_batch_size histogram
ray_limelight_batch_size_bucket{application="segmenter",stage="encode",le="1.0"} 2.0
ray_limelight_batch_size_bucket{application="segmenter",stage="encode",le="+Inf"} 5.0
ray_limelight_batch_size_count{application="segmenter",replica="a",stage="encode"} 3.0
ray_limelight_batch_size_count{application="segmenter",replica="b",stage="encode"} 2.0
# TYPE ray_limelight_cache_hits_total counter
ray_limelight_cache_hits_total{application="segmenter",cache="image"} %d
# TYPE ray_other_total counter
ray_other_total 7.0
"""


class Page(BaseHTTPRequestHandler):
    hits = 4
    still_rising = 0

    def do_GET(self) -> None:
        if Page.still_rising:
            Page.still_rising -= 1
            Page.hits += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write((PAGE % Page.hits).encode())

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_replicas_are_summed_and_buckets_left_out(address: str) -> None:
    Page.hits, Page.still_rising = 4, 0
    counts = await scrape(address)
    assert counts == {
        ("limelight_batch_size_count", "segmenter", "encode"): 5.0,
        ("limelight_cache_hits_total", "segmenter", "image"): 4.0,
    }


async def test_settled_waits_until_nothing_rises(address: str) -> None:
    Page.hits, Page.still_rising = 0, 5
    counts = await settled(address, report_s=0.2)
    assert counts["limelight_cache_hits_total", "segmenter", "image"] == 5.0


def test_difference_counts_what_is_new() -> None:
    before = {("a", "", ""): 3.0}
    after = {("a", "", ""): 5.0, ("b", "", ""): 1.0}
    assert difference(before, after) == {("a", "", ""): 2.0, ("b", "", ""): 1.0}
