"""Which channels go through a proxy: none to this machine, all others, and errors name it."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from limelight import AsyncClient, Client, LimelightError, RetryPolicy
from limelight.proxies import proxy_for
from limelight.targets import is_local
from tests.client.stand_in import StandIn

VARIABLES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")
ONCE = RetryPolicy(attempts=1)
SECRET = "hunter2"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class RefusingProxy:
    """A real HTTP proxy that answers every CONNECT with a status and closes."""

    def __init__(self, status: str) -> None:
        self._status = status
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.asked: list[str] = []
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(4096).decode().split("\r\n")[0])
                connection.sendall(f"HTTP/1.1 {self._status}\r\n\r\n".encode())

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def proxy() -> Iterator[RefusingProxy]:
    proxy = RefusingProxy("403 Forbidden")
    yield proxy
    proxy.close()


def failed(address: str, kind: str) -> LimelightError:
    """The error of one call."""
    with pytest.raises(LimelightError) as caught:
        segment(address, kind)
    return caught.value


def segment(address: str, kind: str) -> None:
    """One call by the client of that kind."""

    async def call() -> None:
        async with AsyncClient(address, retry=ONCE) as client:
            await client.segment(b"picture", phrases=["dog"], timeout=20)

    if kind == "async":
        asyncio.run(call())
        return
    with Client(address, retry=ONCE) as client:
        client.segment(b"picture", phrases=["dog"], timeout=20)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("variable", [*VARIABLES, *map(str.upper, VARIABLES)])
def test_loopback_goes_through_no_proxy(
    address: str,
    service: StandIn,
    proxy: RefusingProxy,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    kind: str,
) -> None:
    monkeypatch.setenv(variable, f"http://{proxy.host}")
    port = address.rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"dns:///localhost:{port}"):
        segment(host, kind)
    assert len(service.tasks) == 3
    assert proxy.asked == []


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("variable", [*VARIABLES, *map(str.upper, VARIABLES)])
def test_another_machine_is_asked_through_the_proxy_which_the_error_names(
    proxy: RefusingProxy, monkeypatch: pytest.MonkeyPatch, variable: str, kind: str
) -> None:
    monkeypatch.setenv(variable, f"http://me:{SECRET}@{proxy.host}")
    error = failed("limelight.example:50551", kind)
    assert proxy.asked[0] == "CONNECT limelight.example:50551 HTTP/1.1"
    assert error.proxy == f"http://{proxy.host} ({variable.lower()})"
    assert f"through the proxy {error.proxy}" in error.message
    assert "403" in error.message
    assert SECRET not in f"{error} {error!r} {error.proxy}"
    assert error.unreachable


@pytest.mark.parametrize("value", ["http://127.0.0.1:9", "127.0.0.1:9", "HTTP://127.0.0.1:9"])
def test_a_proxy_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("https_proxy", value)
    error = failed("192.0.2.1:50551", "sync")
    assert error.proxy == "http://127.0.0.1:9 (https_proxy)"
    assert error.unreachable


def test_a_failure_without_a_proxy_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    error = failed("127.0.0.1:9", "sync")
    assert error.proxy is None
    assert "proxy" not in error.message


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:5",
        "127.8.7.6:5",
        "127.1:5",
        "localhost:5",
        "LocalHost:5",
        "localhost.:5",
        "gateway.localhost:5",
        "[::1]:5",
        "::1",
        "[::ffff:127.0.0.1]:5",
        "0.0.0.0:5",
        "[::]:5",
        "unix:gateway.sock",
        "unix:///run/gateway.sock",
        "unix-abstract:gateway",
        "dns:localhost:5",
        "dns:///127.0.0.1:5",
        "dns://192.0.2.1/localhost:5",
        "ipv4:127.0.0.1:5",
        "ipv4:127.0.0.1:5,127.0.0.2:5",
        "ipv6:[::1]:5",
        "ipv6:%5B::1%5D:5",
    ],
)
def test_what_is_on_this_machine(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    assert is_local(target)
    assert proxy_for(target) is None


def test_the_machines_own_name_and_addresses_are_local() -> None:
    assert is_local(f"{socket.gethostname()}:5")
    own = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    assert all(is_local(f"{address}:5") for address in own)


@pytest.mark.parametrize(
    "target",
    [
        "192.0.2.1:5",
        "128.0.0.1:5",
        "limelight.example:443",
        "localhost.example:5",
        "notlocalhost:5",
        "127.0.0.1.example:5",
        "[2001:db8::1]:5",
        "dns:///planner-pods:9000",
        "dns://127.0.0.1/planner:9000",
        "ipv4:127.0.0.1:5,192.0.2.1:5",
    ],
)
def test_what_is_elsewhere(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    assert not is_local(target)
    assert str(proxy_for(target)) == "http://proxy.example:3128 (http_proxy)"


@pytest.mark.parametrize(
    ("target", "exceptions"),
    [
        ("limelight.example:5", "limelight.example"),
        ("limelight.example:5", "other, .example"),
        ("limelight.example:5", "EXAMPLE"),
        ("limelight.example:5", "*"),
        ("192.0.2.7:5", "192.0.2.7"),
        ("192.0.2.7:5", "10.0.0.0/8,192.0.2.0/24"),
        ("[2001:db8::1]:5", "2001:db8::/32"),
    ],
)
@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY", "no_grpc_proxy"])
def test_exceptions_hold(
    monkeypatch: pytest.MonkeyPatch, target: str, exceptions: str, variable: str
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert proxy_for(target) is not None
    monkeypatch.setenv(variable, exceptions)
    assert proxy_for(target) is None
    if exceptions != "*":
        assert proxy_for("198.51.100.1:5") is not None


@pytest.mark.parametrize(
    "credentials",
    [
        "me:hunter2@",
        "hunter2@",
        "me:hun/ter2@",
        "me:hunter2@hunter2@",
        "me:hunter2%40@",
        ":hunter2@",
    ],
)
def test_a_proxys_password_is_not_shown(monkeypatch: pytest.MonkeyPatch, credentials: str) -> None:
    monkeypatch.setenv("https_proxy", f"http://{credentials}proxy.example:3128/")
    proxy = proxy_for("limelight.example:443")
    assert str(proxy) == "http://proxy.example:3128 (https_proxy)"
    assert "ter2" not in repr(proxy)


@pytest.mark.parametrize("value", ["", "socks5://proxy.example:1080", "https://proxy.example:3128"])
def test_a_proxy_that_grpc_cannot_use_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("https_proxy", value)
    assert proxy_for("limelight.example:5") is None
    monkeypatch.setenv("http_proxy", "http://second.example:3128")
    assert str(proxy_for("limelight.example:5")) == "http://second.example:3128 (http_proxy)"


def test_a_program_of_a_web_server_trusts_no_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CGI program's HTTP_PROXY is whatever the caller sent as a header called `Proxy`."""
    monkeypatch.setenv("HTTP_PROXY", "http://evil.example:3128")
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    assert proxy_for("limelight.example:5") is None
