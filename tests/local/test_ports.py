"""Ports that are free, and the preferred one where it is."""

import socket

from services.local.ports import free_ports, is_free, preferred


def test_a_taken_port_is_not_preferred() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not is_free(port)
        assert preferred(port) == 0
    assert preferred(port) == port
    assert preferred(0) == 0


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(8))) == 8
