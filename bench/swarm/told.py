"""What an answer tells a client: how long to wait, and what is wrong, in words that can be counted.

Pure but for dice: without them all that were told to wait would come back at one moment.
"""

from __future__ import annotations

import random
import re
from typing import Final

from bench.load.conversation import Answer

LONGEST: Final = 60.0  # seconds of a Retry-After that are waited; a swarm is not there for hours
UNSAID: Final = 5.0  # seconds to wait where a 503 says nothing


def wait(answer: Answer) -> float:
    """Seconds that an answer asks its client to wait (RFC 9110, 10.2.3), and up to a fifth more, so that not all come
    back at one moment.
    """
    after = answer.headers.get("retry-after", "")
    seconds = float(after) if after.isdigit() else UNSAID
    return min(seconds, LONGEST) * random.uniform(1.0, 1.2)


def few(text: str) -> str:
    """Words that can be counted: numbers, ids and long tails would make every failure a row of its own."""
    return re.sub(r"[0-9a-fA-F-]{8,}|\d+", "#", text)[:80]


def of_the_network(trouble: Exception) -> str:
    """What the network did, as a failure's name."""
    words = few(str(trouble))
    return f"{type(trouble).__name__}: {words}" if words else type(trouble).__name__


def no_certificate(answer: Answer) -> str:
    """What is wrong with an answer that should have a certificate in PEM; an empty text where it has one."""
    return "" if b"BEGIN CERTIFICATE" in answer.body else "no certificate in the answer"
