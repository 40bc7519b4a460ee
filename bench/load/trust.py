"""How a driver does TLS: whom it believes, and what it shows of itself.

A description that can be sent to another process; the context is made there. Nothing here resumes a session, so every
handshake is a full one.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trust:
    """`authority` is a PEM file (empty: the system's), `certificate` and `key` the client's own, both PEM files."""

    authority: str = ""
    insecure: bool = False
    certificate: str = ""
    key: str = ""

    def context(self) -> ssl.SSLContext:
        """The context of one process. Raises OSError where a file is missing or is no PEM."""
        made = ssl.create_default_context(cafile=self.authority or None)
        if self.insecure:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        if self.certificate:
            made.load_cert_chain(self.certificate, self.key or None)
        return made
