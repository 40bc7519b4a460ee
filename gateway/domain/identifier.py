"""Identifiers: the ids of our own things, and the canonical forms of names (D2)."""
