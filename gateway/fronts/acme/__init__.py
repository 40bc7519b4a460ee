"""The ACME door: everything below `/acme/{application}/{profile}/`, over https only.

A request becomes an exchange of `protocols.acme`; its needs are answered here by actions and single reads of the store.
Nonces are made and spent here. Must never happen here: ACME's wire form, a decision of policy, SQL, a URL taken from a
request. Who comes in: `fronts.routes`.
"""

from gateway.fronts.acme.door import acme_routes

__all__ = ["acme_routes"]
