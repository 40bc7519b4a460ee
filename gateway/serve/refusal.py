"""Why the gateway does not start. No logic here: a sentence for the operator, which ends with exit status 2."""

from __future__ import annotations


class CannotStart(Exception):
    """The gateway cannot start as asked; nothing was changed.

    The message is one sentence that says what is wrong and what to do. It is printed as it stands, without a traceback.
    """
