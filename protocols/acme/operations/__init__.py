"""What ACME's resources do, one file a resource. `get` and `post` are the doors; what they do not list is answered 404.

A signed request passes `signed` before any of them sees it. Nothing here decides a policy, and nothing but a
`Need` reaches the world. The front for ACME comes in.
"""

from protocols.acme.operations.dispatch import get, post

__all__ = ["get", "post"]
