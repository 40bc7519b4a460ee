"""Keys, and the processes that hold them.

Here: what may be asked of a signer (`contract`), the trio side of its wire (`client`), the processes (`supervisor`,
`worker`), what they check and build before they sign (`issuance`), where keys rest (`keystore`), and the making of keys
and authorities (`ceremony`). Never here: a verb that signs bytes of somebody's choice, a policy, a database.
The gateway comes in through `signer.client` and `signer.contract` alone; everything else runs in processes of its own.
"""
