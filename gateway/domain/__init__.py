"""Nouns: what the product is about, as values and pure rules.

Must never happen here: I/O, clocks, dice, protocols, cryptography. Time and dice come in as arguments.
Who comes in: every room of the gateway; this one imports none of them.
"""
