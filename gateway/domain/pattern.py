"""Patterns over canonical names (D2). No regular expressions: time is linear in the name, whatever the pattern says.

`*` matches any run of characters within one label, `**` any run across labels. What a label is depends on the
kind: the parts of a host name between dots, a path segment of a URI, the local part of a mailbox. In subject attributes
there are no labels, and both match anything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, assert_never

from gateway.domain.identifier import DEFAULT_PORTS, InvalidName, dns_name, quoted, unescaped
from gateway.domain.request import SanType

Matcher: TypeAlias = Callable[[str], bool]

_MAX_PATTERN: Final = 1024
_HOST_ENDS: Final = frozenset("/?#")
_HOST_LABEL_ENDS: Final = frozenset("./?#:@")
_SEGMENT_ENDS: Final = frozenset("/?#")
_NAME_ENDS: Final = frozenset("/?#:")  # urn:example:one
_NOTHING: Final[frozenset[str]] = frozenset()
_DOT: Final = frozenset(".")


class InvalidPattern(ValueError):
    """A pattern that cannot match as its author hopes. The text is one sentence."""


@dataclass(frozen=True, slots=True)
class _Star:
    """A wildcard in a pattern: it runs up to the next character of `ends`."""

    ends: frozenset[str]


class Glob:
    """A pattern as a machine whose states are the bits of an integer: each character of a name costs a few operations.

    Bit i stands for "everything before token i has matched".
    """

    __slots__ = ("_final", "_literals", "_stars", "_stays", "_tokens")

    def __init__(self, tokens: tuple[str | _Star, ...]) -> None:
        literals: dict[str, int] = {}
        stars = 0
        for position, token in enumerate(tokens):
            if isinstance(token, _Star):
                stars |= 1 << position
            else:
                literals[token] = literals.get(token, 0) | 1 << position
        self._tokens = tokens
        self._literals = literals
        self._stars = stars
        self._stays: dict[str, int] = {}
        self._final = 1 << len(tokens)

    def __call__(self, text: str) -> bool:
        """Whether the whole of `text` matches."""
        return self._run(self._start(), text) & self._final != 0

    def covers_label(self, rest: str) -> bool:
        """Whether some label followed by `rest` matches: what a wildcard certificate would stand for."""
        state = self._start()
        reached = 0
        while state & ~reached:
            reached |= state
            state = self._any_label_character(reached)
        return self._run(self._any_label_character(reached), rest) & self._final != 0

    def _start(self) -> int:
        return 1 | (1 & self._stars) << 1

    def _run(self, state: int, text: str) -> int:
        stars, literals = self._stars, self._literals
        for character in text:
            state = (state & literals.get(character, 0)) << 1 | state & self._staying(character)
            # Two wildcards never stand side by side, so one step over them is enough.
            state |= (state & stars) << 1
            if not state:
                break
        return state

    def _staying(self, character: str) -> int:
        """The wildcards that may take this character; worked out once for each character that was met."""
        bits = self._stays.get(character)
        if bits is None:
            bits = 0
            for position, token in enumerate(self._tokens):
                if isinstance(token, _Star) and character not in token.ends:
                    bits |= 1 << position
            # Names are ASCII but subjects are not: the table may not grow with what peers send.
            if len(self._stays) < 256:
                self._stays[character] = bits
        return bits

    def _any_label_character(self, state: int) -> int:
        """The states after one character, whichever a label may hold."""
        after = state & self._stars
        for character, bits in self._literals.items():
            if character != ".":
                after |= (state & bits) << 1
        return after | (after & self._stars) << 1


def _tokens(pattern: str, single: frozenset[str], double: frozenset[str]) -> tuple[str | _Star, ...]:
    """Tokens of a pattern in which `*` ends at a character of `single` and a longer run of stars at one of `double`."""
    tokens: list[str | _Star] = []
    position = 0
    while position < len(pattern):
        if pattern[position] != "*":
            tokens.append(pattern[position])
            position += 1
            continue
        run = len(pattern) - position - len(pattern[position:].lstrip("*"))
        tokens.append(_Star(single if run == 1 else double))
        position += run
    return tuple(tokens)


def _anything(_text: str) -> bool:
    return True


def subject_pattern(pattern: str) -> Matcher:
    """A matcher of subject values: without regard to case, as distinguished names compare (RFC 5280, 7.1)."""
    _check_length(pattern)
    if not pattern.strip("*"):
        return _anything
    folded = pattern.casefold()
    if "*" not in folded:
        return lambda text: text.casefold() == folded
    glob = Glob(_tokens(folded, _NOTHING, _NOTHING))
    return lambda text: glob(text.casefold())


def san_pattern(kind: SanType, pattern: str) -> Matcher:
    """A matcher of canonical names of this kind. Raises InvalidPattern, with a sentence for the policy's author."""
    _check_length(pattern)
    match kind:
        case SanType.DNS_NAME:
            return _dns_pattern(pattern)
        case SanType.IP_ADDRESS:
            return _ip_pattern(pattern)
        case SanType.EMAIL:
            return _mailbox_pattern(pattern)
        case SanType.UPN:
            # Directories compare users without regard to case, so a denied name must not return in capitals.
            matcher = _mailbox_pattern(pattern.casefold())
            return lambda text: matcher(text.casefold())
        case SanType.URI:
            return _uri_pattern(pattern)
    assert_never(kind)


def denied_pattern(kind: SanType, pattern: str) -> Matcher:
    """A matcher for a rule that denies: a wildcard host name is also met by a pattern for any host that it stands for.

    Otherwise a certificate for `*.example.com` would serve as one for a denied `admin.example.com`.
    """
    matcher = san_pattern(kind, pattern)
    if kind is not SanType.DNS_NAME:
        return matcher
    glob = Glob(_tokens(pattern.lower(), _DOT, _NOTHING))
    return lambda text: glob.covers_label(text[1:]) if text.startswith("*.") else matcher(text)


def _check_length(pattern: str) -> None:
    if not 0 < len(pattern) <= _MAX_PATTERN:
        raise InvalidPattern(f"a pattern has 1 to {_MAX_PATTERN} characters")


def _dns_pattern(pattern: str) -> Matcher:
    lowered = pattern.lower()
    try:
        # A wildcard may stand for any characters of a label; put one there and see whether a name comes out.
        dns_name("x" if not lowered.strip("*") else lowered.replace("**", "*").replace("*", "x"))
    except InvalidName:
        raise InvalidPattern(f"{quoted(pattern)} can match no DNS name") from None
    if not lowered.strip("*"):
        return _anything if len(lowered) > 1 else lambda text: "." not in text
    if "*" not in lowered:
        return lambda text: text == lowered
    suffix = lowered.lstrip("*")
    if "*" not in suffix and suffix.startswith("."):
        # The two common shapes, *.example.com and **.example.com, without the machine.
        if not lowered.startswith("**"):
            return lambda text: text.endswith(suffix) and text.find(".") == len(text) - len(suffix)
        return lambda text: text.endswith(suffix)
    return Glob(_tokens(lowered, _DOT, _NOTHING))


def _ip_pattern(pattern: str) -> Matcher:
    if not pattern.strip("*"):
        return _anything
    try:
        network = ipaddress.ip_network(pattern)
    except ValueError:
        raise InvalidPattern(f"{quoted(pattern)} is neither an address nor a CIDR range without host bits") from None
    return lambda text: ipaddress.ip_address(text) in network


def _mailbox_pattern(pattern: str) -> Matcher:
    if not pattern.strip("*"):
        return _anything
    local, at, domain = pattern.rpartition("@")
    if not at or not local or not domain or "@" in local:
        raise InvalidPattern(f"{quoted(pattern)} can match no address: write local-part@domain, wildcards in either")
    match_domain = _dns_pattern(domain)
    match_local = Glob(_tokens(local, _NOTHING, _NOTHING))

    def matches(text: str) -> bool:
        name, _, host = text.rpartition("@")
        return match_domain(host) and match_local(name)

    return matches


def _uri_pattern(pattern: str) -> Matcher:
    if not pattern.strip("*"):
        return _anything
    scheme, colon, rest = unescaped(pattern).partition(":")
    if not colon or not scheme or "*" in scheme or not rest:
        raise InvalidPattern(f"{quoted(pattern)} can match no URI: begin with a scheme, such as https://")
    beginning = tuple(scheme.lower() + ":")
    if not rest.startswith("//"):
        return Glob(beginning + _tokens(rest, _NAME_ENDS, _NOTHING))
    host_length = next((at for at, character in enumerate(rest[2:], 2) if character in _HOST_ENDS), len(rest))
    host, path = rest[:host_length].lower(), rest[host_length:]
    host = host.removesuffix(f":{DEFAULT_PORTS.get(scheme.lower(), '')}")  # canonical URIs have none
    # `**` in a host must not swallow the slash, or https://**.example.com/x would match a path on somebody else's host.
    # At the pattern's very end nothing follows that could be forged, and https://** means every https URI.
    everything = host.endswith("**") and not path
    tokens = _tokens(host, _HOST_LABEL_ENDS, _HOST_ENDS)
    if everything:
        tokens = (*tokens[:-1], _Star(_NOTHING))
    return Glob(beginning + tokens + _tokens(path, _SEGMENT_ENDS, _NOTHING))
