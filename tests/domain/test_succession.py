"""Generations of authorities: whoever names one means the last, and whoever trusts one is led to the other (E24, E25)."""

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.authority import Authority, AuthorityKind, AuthorityStatus
from gateway.domain.succession import acceptable, generations, latest, published

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def authority(name: str, *chain: str, successor: str | None = None, links: tuple[str, ...] = ()) -> Authority:
    return Authority(
        id=name,
        name=name,
        kind=AuthorityKind.ROOT if len(chain) == 1 else AuthorityKind.INTERMEDIATE,
        status=AuthorityStatus.ACTIVE,
        key=name,
        subject=f"CN={name}",
        chain=tuple(each.encode() for each in chain),
        key_algorithm="EC_prime256v1",
        not_before=NOW,
        not_after=NOW,
        successor_id=successor,
        links=tuple(each.encode() for each in links),
    )


LINKS = ("OldWithNew", "NewWithOld")
ROOT = authority("root", "root cert", successor="root-g2", links=LINKS)
ROOT_2 = authority("root-g2", "root-g2 cert", links=LINKS)
ISSUING = authority("issuing", "issuing cert", "root cert", successor="issuing-g2")
ISSUING_2 = authority("issuing-g2", "issuing-g2 cert", "root-g2 cert")
OTHER = authority("other", "other cert", "root cert")
STRANGER = authority("stranger", "stranger cert")
WAITING = authority("waiting")
ALL = (ROOT, ROOT_2, ISSUING, ISSUING_2, OTHER, STRANGER, WAITING)


def test_cacerts_has_both_roots_and_the_links_between_them_for_either_generation():
    """E25; RFC 7030, 4.1.3."""
    everything = {b"root cert", b"root-g2 cert", b"OldWithNew", b"NewWithOld", b"issuing cert", b"issuing-g2 cert"}
    for each in (ISSUING, ISSUING_2):
        found = published(each, ALL)
        assert set(found) == everything
        assert found[: len(each.chain)] == each.chain, "its own chain stands first"
        assert len(found) == len(set(found))


def test_an_authority_beside_has_the_roots_and_nobody_elses_issuer():
    assert set(published(OTHER, ALL)) == {b"other cert", b"root cert", b"root-g2 cert", b"OldWithNew", b"NewWithOld"}
    assert published(STRANGER, ALL) == (b"stranger cert",)


def test_without_a_rollover_it_is_the_chain_alone():
    """E24."""
    assert published(OTHER, (replace(ROOT, successor_id=None, links=()), OTHER, STRANGER)) == OTHER.chain


def test_a_device_may_present_what_any_generation_issued():
    assert acceptable(ISSUING_2, ALL) == {b"issuing cert", b"issuing-g2 cert"}
    assert acceptable(OTHER, ALL) == {b"other cert"}
    assert acceptable(WAITING, ALL) == frozenset()


def test_who_is_succeeded_or_disabled_or_waits_does_not_issue():
    assert ISSUING_2.issues
    assert not ISSUING.issues
    assert not replace(ISSUING_2, status=AuthorityStatus.DISABLED).issues
    assert not replace(ISSUING_2, status=AuthorityStatus.PENDING_CERTIFICATE).issues


@given(st.integers(1, 6), st.data())
def test_each_generation_of_any_line_leads_to_the_last(count: int, data):
    line = [authority(f"g{n}", f"cert {n}", successor=f"g{n + 1}" if n < count - 1 else None) for n in range(count)]
    everyone = data.draw(st.permutations([*line, STRANGER]))
    by_id = {each.id: each for each in everyone}
    for each in line:
        assert latest(each, by_id) == line[-1]
        assert set(generations(each, everyone)) == set(line)
        assert {certificate for one in line for certificate in one.chain} == set(published(each, everyone))
