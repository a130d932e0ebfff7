"""A certificate for a server on the loopback that speaks TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


def loopback_certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Return what makes a server's socket speak TLS, and a file by which clients trust it."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusted = folder / "trusted.pem"
    authority.cert_pem.write_to_path(str(trusted))
    return context, trusted
