"""Ceremonies: keys and certificates of authorities, made offline. No gateway asks for one; no key is ever overwritten.

`authority` makes authorities and RAs, `outside` those whose certificate or key comes from elsewhere, `renewal` gives a
key a new certificate and an authority a new key, `listening` a TLS certificate; `certify` is where all of them sign,
under the same lint and ceilings as everything else. `verbs` is the command line's side, `transcript` what witnesses
sign. Each step is kept when it is done, so a ceremony that was interrupted is run again and goes on.
"""

from signer.ceremony.authority import Ceremony, first
from signer.ceremony.manifest import Listening, Made, Manifest
from signer.ceremony.plan import DAY, Plan, parse_subject
from signer.ceremony.verbs import main

__all__ = ["DAY", "Ceremony", "Listening", "Made", "Manifest", "Plan", "first", "main", "parse_subject"]
