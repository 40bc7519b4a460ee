"""How this room says that it cannot do its duty. Whoever hears it signs nothing, and hands nothing out."""

from __future__ import annotations


class JournalFailed(Exception):
    """The journal or the claims cannot be read or written. The text is one sentence for an operator."""
