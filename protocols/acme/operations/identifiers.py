"""What an order may name (RFC 8555, 7.1.3 and 7.4; RFC 8738): normalised, each once, every fault told together.

Form only: whether a well-formed name may be certified is the policy's to say, at `CreateOrder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from protocols.acme.failures import Failure, subproblem
from protocols.acme.messages import ProblemBody, WireIdentifier
from protocols.acme.states import Identifier, IdentifierType
from protocols.pkix.names import canonical_dns, canonical_ip

LIMIT: Final = 100
"""Identifiers in one order (A44), as the largest public authority has it."""


def accept(asked: Sequence[WireIdentifier], *, wildcards: bool) -> tuple[Identifier, ...]:
    """The identifiers of a new order, in the order in which they were first asked for.

    Raises:
        Failure: malformed for none or too many; else unsupportedIdentifier, rejectedIdentifier, or compound for both,
            with a subproblem for each bad identifier (A45).
    """
    if not asked:
        raise Failure("malformed", "The order names no identifier.")
    if len(asked) > LIMIT:
        raise Failure("malformed", f"The order names {len(asked)} identifiers; at most {LIMIT} are accepted.")
    found: dict[Identifier, None] = {}
    problems: list[tuple[str, ProblemBody]] = []
    for each in asked:
        outcome = _accept(each, wildcards=wildcards)
        if isinstance(outcome, Identifier):
            found[outcome] = None
        else:
            problems.append(outcome)
    if problems:
        types = {type_ for type_, _ in problems}
        raise Failure(
            types.pop() if len(types) == 1 else "compound",
            " ".join(each.detail for _, each in problems[:5]),
            subproblems=tuple(each for _, each in problems),
        )
    return tuple(found)


def _accept(asked: WireIdentifier, *, wildcards: bool) -> Identifier | tuple[str, ProblemBody]:
    match asked.type:
        case "dns":
            kind, canonical = IdentifierType.DNS, canonical_dns
        case "ip":
            kind, canonical = IdentifierType.IP, canonical_ip
        case _:
            detail = f"Identifiers of type {asked.type[:32]!r} are not offered; use dns or ip."
            return _wrong("unsupportedIdentifier", detail, asked)
    try:
        value = canonical(asked.value)
    except ValueError as fault:
        return _wrong("rejectedIdentifier", f"The name {asked.value[:80]!r} {fault}.", asked)
    if value.startswith("*.") and not wildcards:
        detail = f"The wildcard {value!r} needs a DNS challenge, which is not offered here; name the hosts."
        return _wrong("rejectedIdentifier", detail, asked)
    return Identifier(kind, value)


def _wrong(type_: str, detail: str, asked: WireIdentifier) -> tuple[str, ProblemBody]:
    return type_, subproblem(type_, detail, WireIdentifier(asked.type[:32], asked.value[:255]))
