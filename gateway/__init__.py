"""The gateway introduces the protocols to the signer, and owns time, storage, the network and the product's nouns.

Four rooms explain the product: `domain` (what it is about), `actions` (what it can do), `fronts` (how to ask), `jobs`
(what it does by itself). `serve` alone wires them.
Must never happen here: loading a key. The gateway's process cannot, even by accident.
"""
