"""What is printed of authorities: a table of all, a sheet of one. Formats only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime

from gateway.domain.authority import Authority
from gateway.serve.authorities import Facts
from gateway.serve.ceremony import Place, Shown


def table(all_of_them: Sequence[Facts]) -> Iterator[str]:
    """One line each, under a head, in columns."""
    rows = [("NAME", "STATE", "KEY", "UNTIL", "PARENT", "SUBJECT")]
    for each in all_of_them:
        one = each.authority
        rows.append((one.name, _state(each), one.key_algorithm, _day(one), each.parent or _outside(one), one.subject))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def sheet(facts: Facts) -> Iterator[str]:
    """Everything that is known of one authority, a line each."""
    one = facts.authority
    yield f"authority     {one.name}"
    yield f"state         {_state(facts)}"
    yield f"subject       {one.subject}"
    yield f"certified by  {facts.parent or _outside(one) or 'itself'}"
    if facts.predecessor:
        yield f"took over     from {facts.predecessor}"
    if one.chain:
        yield f"valid         {_time(one.not_before)} to {_time(one.not_after)}"
        yield f"SHA-256       {_fingerprint(one.certificate)}"
    if facts.key is not None:
        yield f"key           {one.key}, {one.key_algorithm}, {_place(facts.key)}"
        if facts.key.spki_sha256:
            yield f"  SPKI        {facts.key.spki_sha256}"
    if one.ra_key is not None:
        yield f"SCEP's key    {one.ra_key}"
    for word, urls in (("CRL", one.crl_urls), ("issuer", one.issuer_urls), ("OCSP", one.ocsp_urls)):
        yield f"{word:13} {' '.join(urls) or '(none)'}"
    yield f"profiles      {', '.join(facts.profiles) or '(none)'}"
    for link in one.links:
        yield f"link          SHA-256 {_fingerprint(link)}"


def _state(facts: Facts) -> str:
    return f"succeeded by {facts.successor}" if facts.successor else facts.authority.status.value


def _outside(authority: Authority) -> str:
    """Who is above it where that is no authority of ours."""
    return "(somebody else)" if len(authority.chain) != 1 and authority.parent_id is None else ""


def _day(authority: Authority) -> str:
    return f"{authority.not_after:%Y-%m-%d}" if authority.chain else "-"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%SZ}"


def _fingerprint(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()


def _place(key: Shown) -> str:
    return "in software, sealed by the unlock secret" if key.place is None else f"on {tokens(key)}"


def tokens(key: Shown) -> str:
    """The tokens that serve a key, in the order in which they are asked."""
    places = key.places or ([] if key.place is None else [key.place])
    return ", then ".join(f"the token {_named(each)} through {each.module}" for each in places)


def _named(place: Place) -> str:
    return " ".join(each for each in (place.token, place.serial and f"(serial {place.serial})") if each)
