"""A node leaves when its requests and its sessions have ended, and not before."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from services.local.ports import free_ports
from services.replica.leaving import leave, sessions


class Page:
    """A metrics page that tells of one number of sessions after another, the last for ever."""

    def __init__(self, *told: str) -> None:
        self.told = list(told)
        self.reads = 0

    def text(self) -> str:
        told = self.told[min(self.reads, len(self.told) - 1)]
        self.reads += 1
        return told


def page_of(*counts: int) -> str:
    lines = [
        "# HELP ray_limelight_track_sessions Sessions open.",
        "ray_limelight_track_sessions_total 99.0",
        "ray_limelight_queue_depth 7.0",
    ]
    lines += [
        f'ray_limelight_track_sessions{{replica="{number}",Version="2.60.0"}} {float(count)}'
        for number, count in enumerate(counts)
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture
def page() -> Page:
    return Page(page_of())


@pytest.fixture
def port(page: Page) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page.text().encode())

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_sessions_of_all_replicas_are_added(page: Page, port: int) -> None:
    page.told = [page_of(2, 3), page_of(0), page_of()]
    assert [sessions(port) for _ in range(3)] == [5, 0, 0]


def test_a_node_whose_ray_is_gone_has_none() -> None:
    assert sessions(free_ports(1)[0]) == 0


def test_it_leaves_when_nobody_was_there_for_a_while(page: Page, port: int) -> None:
    page.told = [page_of(4), page_of(1), page_of(0), page_of(1), page_of(0)]
    slept: list[float] = []
    stopped: list[int] = []
    leave(port, 60.0, lambda: stopped.append(page.reads), slept.append)
    # Four reads with somebody or a moment's pause among them, and three quiet ones after that.
    assert stopped == [7]
    assert slept[0] == 60.0
    assert len(slept) == 7
