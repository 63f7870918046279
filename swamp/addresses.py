"""Where a connection goes: whether it leaves this machine, and how an address is written."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether `host` is surely this machine. Any other name may be anywhere, so it is not looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def bracketed(host: str) -> str:
    """`host` as it stands in a URL."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def crosses_the_network(url: str) -> bool:
    """Whether a connection to `url` leaves this machine without TLS. False for what is no URL, or names no host."""
    try:
        split = urlsplit(url)
        host = split.hostname
    except ValueError:
        return False
    return split.scheme in ("http", "ws", "redis") and bool(host) and not is_loopback(host or "")
