"""TLS: the orchestrator's certificate, and whom those who connect to it believe.

`ssl` is imported by what needs it: it costs every command's start 20 ms.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from swamp.errors import Invalid, NotFound

if TYPE_CHECKING:
    import ssl


def server_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """For who listens. `certificate` is PEM, with the chain behind it; `key` may lie in the same file.

    Raises `NotFound` or `Invalid`, naming the file.
    """
    import ssl

    for file in (certificate, *([key] if key else [])):
        _readable(file)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # Tickets would come to a worker behind the handshake, where one thread reads and another writes: OpenSSL can then
    # lose what is said first, and the worker would wait for an answer in vain. Nobody comes often enough to miss them.
    context.num_tickets = 0
    try:
        # Without a password to give, OpenSSL would ask on the terminal.
        context.load_cert_chain(certificate, key, password=_no_password)
    except _Encrypted as error:
        raise Invalid(
            f"the key in {key or certificate} is encrypted",
            hint="write it without a password, readable by this user only: openssl pkey -in <key> -out <new key>",
        ) from error
    except ssl.SSLError as error:
        raise Invalid(
            f"{certificate} and {key or 'the key in it'} cannot be used for TLS: {_reason(error)}",
            hint="both are PEM files, and the key is the one of the first certificate",
            code="bad_certificate",
        ) from error
    return context


def fingerprint(certificate: Path) -> str:
    """SHA-256 of the first certificate in the file, 64 hex digits."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509 import load_pem_x509_certificates

    return load_pem_x509_certificates(certificate.read_bytes())[0].fingerprint(SHA256()).hex()


def names_of(certificate: Path) -> set[str]:
    """The host names in the first certificate of the file."""
    from cryptography import x509

    first = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    try:
        alternatives = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {name.lower() for name in alternatives.get_values_for_type(x509.DNSName)}


def client_context(ca_certificate: Path | None) -> ssl.SSLContext:
    """For who connects: believes the CAs of `ca_certificate` (PEM), or the system's. Raises `NotFound`, `Invalid`."""
    import ssl

    if ca_certificate is None:
        return ssl.create_default_context()
    _readable(ca_certificate)
    try:
        return ssl.create_default_context(cafile=ca_certificate)
    except ssl.SSLError as error:
        raise Invalid(
            f"{ca_certificate} holds no certificate of a CA: {_reason(error)}",
            hint="name a PEM file with the certificate that signed the server's",
            code="bad_certificate",
        ) from error


def pinning_context() -> ssl.SSLContext:
    """For who knows the very certificate and compares it before saying anything: believes none by itself."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _Encrypted(Exception):
    """The key wants a password."""


def _no_password() -> str:
    raise _Encrypted


def _readable(file: Path) -> None:
    try:
        with file.open("rb"):
            return
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {file}", hint="check the path") from error
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}", hint="name a file that this user may read") from error


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "not understood").replace("_", " ").lower()
