"""The store: everything that must survive the gateway, as units of work on SQLite or PostgreSQL.

A unit is a plain function over a `Unit`; waiting units share one durable commit. One module a noun; SQL lives in
`queries/`, by name, and tables in `schema/`. Never here: a rule of the product, a protocol's words (only its state
records), a call to the network or the signer, a clock. Actions and jobs come in, with the time and the ids in hand.
"""
