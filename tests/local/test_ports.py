"""Ports that are free, and the preferred one where it is."""

import socket

import pytest

from services.local.ports import free_ports, is_free, preferred, reserve


def test_a_taken_port_is_not_preferred() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not is_free(port)
        assert preferred(port) == 0
    assert preferred(port) == port
    assert preferred(0) == 0


def test_a_reserved_port_is_shared_by_those_who_say_so_alone() -> None:
    with reserve("127.0.0.1", 0) as held:
        address = held.getsockname()
        assert not is_free(address[1])
        with pytest.raises(OSError, match="in use"):
            reserve(*address)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        # Two that share it, one after the other, and nobody else while they listen.
        for _ in range(2):
            with socket.create_server(address, reuse_port=True):
                socket.create_connection(address).close()
                with pytest.raises(OSError, match="in use"):
                    reserve(*address)


def test_free_ports_are_different_and_no_connections() -> None:
    ports = free_ports(8)
    assert len(set(ports)) == 8
    with socket.create_server(("127.0.0.1", ports[0])) as server:
        with socket.create_connection(server.getsockname()) as connection:
            assert max(ports) < connection.getsockname()[1]
        assert ports[0] not in free_ports(8)
