"""HTTP/1.1 on llhttp: one task a connection, the application awaited inline, head and body of an answer in one send.

`head`, `body` and `answer` are pure: bytes in, values or bytes out. `wire`, `turn`, `watch` and `connection` are trio.
What two parsers on the way could read in two ways is refused here (RFC 9112, 11.2): one grammar judges a whole head
before llhttp splits it, one rule says where a body ends, and everything else is 400 and a closed connection.

Must never happen here: a path or a protocol known, a right decided, a byte of the peer's given back to it.
Who comes in: `gateway.serve.listener`.
"""
