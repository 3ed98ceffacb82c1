"""Whether anybody listens at an address: a connection and nothing more, before a run finds out at its first call."""

from __future__ import annotations

import socket
import urllib.request
from urllib.parse import urlsplit

#: Seconds that a connection may take.
SECONDS = 3.0


def nobody_at(address: str, seconds: float = SECONDS) -> str | None:
    """Why no connection can be made to an address, in the system's words; None where one can, or a proxy is between.

    Args:
        address: `http://host:port/...` or `https://...`.
        seconds: that it may take.
    """
    parts = urlsplit(address)
    host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    if host is None:
        return "it names no host"
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        # only the proxy knows
        return None
    try:
        with socket.create_connection((host, port), timeout=seconds):
            return None
    except OSError as error:
        return str(error.strerror or error or type(error).__name__)
