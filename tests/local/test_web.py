"""HTTP from this machine past its proxies, from elsewhere through them."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services.local import web


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path != "/none" else 404)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{running.server_address[1]}"
        running.shutdown()


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_a_page_of_this_machine_is_read_past_a_proxy(
    server: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert web.get(f"http://{server}/metrics", 60) == b"/metrics"
    port = server.rpartition(":")[2]
    assert web.get(f"http://localhost:{port}/metrics", 60) == b"/metrics"


def test_a_page_of_another_machine_is_read_through_it(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{server}")
    page = "http://prometheus.example:9090/api"
    assert web.get(page, 60) == page.encode()  # a proxy is asked for the whole address


def test_what_is_no_page_is_an_error(server: str) -> None:
    with pytest.raises(OSError, match="404"):
        web.get(f"http://{server}/none", 60)
