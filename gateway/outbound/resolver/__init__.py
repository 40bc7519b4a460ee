"""Names to addresses: the system's resolver, or servers that a pair names.

Comes in: challenges, and whatever else dials a name that a stranger chose. Nothing here decides whether an address may
be dialled (`outbound.reach` does), nothing is cached (a validation must see the present), and a deadline is the
caller's: every wait here is cancelled by it.
"""

from gateway.outbound.resolver.resolver import NameResolver, ResolutionFailed, Resolver

__all__ = ["NameResolver", "ResolutionFailed", "Resolver"]
