"""What the workers of one store of keys signed, and that none of it is signed twice. Files in `keys/journal/`.

`journal` is the door: `claim` before signatures, `record` after each, `write` before an answer leaves. `claims` is
shared by all workers; each worker's entries stand in files of its own (`files`, `entry`), which `reading` follows from
the first to the last and `show` prints. Never here: a signature, a decision about what may be signed.
What cannot be written down is not signed, and what was signed and not written down is not handed out.
"""
