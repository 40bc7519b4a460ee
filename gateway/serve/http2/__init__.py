"""HTTP/2 as Hypercorn and h2 speak it, with an end to each wait, a bound to each memory and an answer to each frame.

Everything here closes a way in which a stranger could hold a connection, its place and its memory for ever, or end it
with an exception, under Hypercorn 0.18; or in which a client lost a request that it did nothing wrong with.
"""
