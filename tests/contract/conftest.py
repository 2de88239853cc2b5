"""The gateway's fixtures: scripted peers, and requests on a picture."""

from tests.gateway.conftest import ask, peers, picture

__all__ = ["ask", "peers", "picture"]
