"""From when until when a certificate will be valid (D4). Pure; whole seconds, as certificates count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from gateway.domain.application import Pair
from gateway.domain.duration import LONGEST
from gateway.domain.profile import Profile
from gateway.domain.request import EnrollmentRequest, Unset

SECOND: Final = timedelta(seconds=1)

# Where neither request, profile nor policy says anything: short enough that a forgotten setting heals by itself, long
# enough for every client's habit of renewing at two thirds.
FALLBACK: Final = timedelta(days=90)

# How far into the past a client may ask for, as its clock may be behind. Further back it could forge a history.
TOLERANCE: Final = timedelta(minutes=5)


def validity(request: EnrollmentRequest, pair: Pair, now: datetime, violations: list[str]) -> tuple[datetime, datetime]:
    """The first and the last second of validity: by the request's wish, else the profile's default, else the maximum.

    A wish that cannot be is added to `violations`, and an empty validity is given so that the rest can be judged too.
    A certificate that gets a duration lasts exactly that long, both ends counted (RFC 5280, 4.1.2.5). Where the
    beginning is ours to choose it lies `profile.backdate` in the past, but not before the issuer's own, nor so far
    that a short life or an end that was asked for would suffer from it.
    """
    now = _floor(now)
    wrong = _wrong_wishes(request, pair, now)
    if wrong:
        violations.extend(wrong)
        return now, now
    if request.not_after is None:
        lifetime, head_start = _span(request, pair.profile)
        beginning = _beginning(request, pair, now - head_start)
        end = beginning + lifetime - SECOND
    else:
        end = _whole(request.not_after)
        # An end of "now plus the maximum" is within the maximum: the backdating gives way.
        maximum = pair.profile.policy.max_validity or LONGEST
        earliest = max(now - pair.profile.backdate, min(now, end - maximum + SECOND))
        beginning = _beginning(request, pair, earliest)
        if end - beginning == maximum:
            end -= SECOND  # whoever adds the maximum to a beginning does not count both ends
    issuers_end = pair.authority.not_after
    if end > issuers_end:
        if not pair.profile.clip_validity:
            violations.append(f"validity: would outlast the certificate authority, which ends {issuers_end:%Y-%m-%d}")
            return now, now
        end = issuers_end
    if end <= max(beginning, now):
        violations.append("validity: would be over before it began")
        return now, now
    return beginning, end


def _wrong_wishes(request: EnrollmentRequest, pair: Pair, now: datetime) -> list[str]:
    """What is wrong with the dates asked for, whatever the policy says."""
    wrong: list[str] = []
    ttl = request.ttl
    first = None if request.not_before is None else _whole(request.not_before)
    last = None if request.not_after is None else _whole(request.not_after)
    if pair.authority.not_after <= now:
        wrong.append("validity: the certificate authority's own certificate has expired")
    if isinstance(ttl, timedelta):
        if last is not None:
            wrong.append("validity: give ttl or notAfter, not both")
        if not SECOND <= ttl <= LONGEST:
            wrong.append("ttl: must be more than nothing and at most 100 years")
    if first is not None:
        earliest = now - max(pair.profile.backdate, TOLERANCE)
        if not earliest <= first <= now + LONGEST:
            wrong.append("notBefore: lies too far in the past or in the future")
        elif first < pair.authority.not_before:
            wrong.append("notBefore: lies before the certificate authority's own beginning")
    if last is not None and (last <= now or (first is not None and last <= first)):
        wrong.append("notAfter: lies in the past, or not after notBefore")
    return wrong


def _span(request: EnrollmentRequest, profile: Profile) -> tuple[timedelta, timedelta]:
    """How long, where no end was asked for, and how far into the past it begins, for slow clocks (A122)."""
    if isinstance(request.ttl, timedelta):
        lifetime = _whole_seconds(request.ttl)
        return lifetime, min(profile.backdate, lifetime // 10)
    default = profile.defaults.ttl if isinstance(request.ttl, Unset) else None
    return _our_span(default, profile.policy.max_validity, profile.backdate)


# A duration divides by way of big numbers; those of profiles are few, and wishes do not come here.
@lru_cache(maxsize=1024)
def _our_span(default: timedelta | None, maximum: timedelta | None, backdate: timedelta) -> tuple[timedelta, timedelta]:
    """The same where no time was asked for either. A default is ours, so it bends to the maximum."""
    if default is None:
        default = FALLBACK if maximum is None else maximum
    lifetime = _whole_seconds(default if maximum is None else min(default, maximum))
    return lifetime, min(backdate, lifetime // 10)


def _beginning(request: EnrollmentRequest, pair: Pair, earliest: datetime) -> datetime:
    """When it begins: as asked, else at `earliest`, but not before the issuer does."""
    if request.not_before is not None:
        return _whole(request.not_before)
    return _floor(max(earliest, pair.authority.not_before))


def _whole(moment: datetime) -> datetime:
    return _floor(moment.astimezone(UTC))


def _floor(moment: datetime) -> datetime:
    """The whole second that an aware time of UTC lies in. `replace` takes five times as long."""
    return moment - timedelta(0, 0, moment.microsecond) if moment.microsecond else moment


def _whole_seconds(duration: timedelta) -> timedelta:
    return duration - timedelta(0, 0, duration.microseconds)
