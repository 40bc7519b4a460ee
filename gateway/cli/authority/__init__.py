"""`muster authority`: authorities from their first key to their successor, by the person who holds the ceremony.

`words` is what can be said, `doing` what happens then, `telling` what is printed. Keys are made and used by the signer
alone; a passphrase comes from a prompt, a file or a variable, never from an argument, and nothing is signed
before the question whether to.
"""

from gateway.cli.authority.doing import run
from gateway.cli.authority.words import describe

__all__ = ["describe", "run"]
