"""Everything that the gateway calls: the signer, the resolver, peers being validated, channels and destinations.

Families of destinations stand behind one Protocol class each. Only `signer` here may import the signer's package.
Must never happen here: decisions. A call is made as told, with its deadline, and its failure is named.
Who comes in: actions and jobs.
"""
