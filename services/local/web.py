"""HTTP requests to what may be on this machine: metrics pages, Prometheus."""

import urllib.parse
import urllib.request

from limelight.targets import is_local


def get(url: str, timeout_s: float) -> bytes:
    """The body at an `http://` URL, past the environment's proxies if it is on this machine.

    Raises:
        OSError: nothing answers, or with another status than 200.
    """
    here = is_local(urllib.parse.urlsplit(url).netloc)
    proxies = urllib.request.ProxyHandler({} if here else None)
    with urllib.request.build_opener(proxies).open(url, timeout=timeout_s) as response:
        body: bytes = response.read()
    return body
