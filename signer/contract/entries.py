"""The entries of a long revocation list, packed: msgpack's decoder would hold a worker up with 100,000 tuples.

Both sides import it; nothing is checked here.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

# Serial, big-endian and filled up to 20 bytes (RFC 5280, 4.1.2.2); when, in seconds since the epoch; CRLReason.
ENTRY: Final = Struct(">20sIB")
