"""Admission: is there such a pair, and is this door of it open? Default deny."""

from __future__ import annotations

from gateway.actions.resources import Resources
from gateway.domain.application import Pair
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import Protocol


def admit(resources: Resources, application: str, profile: str, protocol: Protocol) -> Pair:
    """The pair of this application's name and profile's slug, if it enrolls over `protocol`.

    Raises:
        Refusal: NOT_FOUND, in one and the same sentence whether the application, the profile or the door is
            missing, so that nobody can map an installation from outside; UNAVAILABLE if the authority does not issue.
    """
    pair = resources.catalogue().pair(application, profile)
    return admitted(pair, protocol)


def admitted(pair: Pair | None, protocol: Protocol) -> Pair:
    """`pair`, if it exists and enrolls over `protocol`; raises as `admit` does."""
    if pair is None or not pair.settings.enables(protocol):
        raise Refusal(RefusalReason.NOT_FOUND, f"there is no {protocol.upper()} enrollment at this address")
    if not pair.authority.issues:
        raise Refusal(RefusalReason.UNAVAILABLE, "the certificate authority is not issuing", retry_after=300)
    return pair
