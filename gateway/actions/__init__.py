"""Verbs: what the product can do, whichever door asked.

Every enrollment meets in `enroll`; `admit` says whether a door is open. An action takes `Resources` and plain nouns,
and raises `Refusal` where it decides against.
Must never happen here: HTTP, protocol wire forms, SQL, keys. Who comes in: fronts, console and jobs.
"""
