"""The wire between a gateway and its signer: what may be asked, what is answered, how it is framed.

Both sides import it, so nothing here may touch a key, a file or a socket. Verbs are structured; none means "sign these
bytes". Fields are appended with a default and never reordered; a tag is never used again.
"""
