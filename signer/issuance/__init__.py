"""What a worker does with an ask: check, build, check again, sign once. One file a question.

`proof` (who authorized it), `ceiling` (may this key ever), `lint` (would it break RFC 5280), `template` (what it is),
`ticket` (once), `issue` (all of them in order), and beside it `crl`, `ra` and `subject_key`. Never here: a socket, a
file, a clock, the product's policy; time comes in as an argument. Nothing here signs what it did not build or parse.
The worker and the ceremony come in.
"""
