"""Proxies in front: whose word about a client is believed, and about what.

    prefix    the PROXY protocol before everything else: bytes to addresses
    arrival   reads it from a connection that just came
    hops      X-Forwarded-For and Forwarded: a header to an address
    forms     a client's certificate in a header, in the form of one proxy
    believe   puts what is believed into the scope, and takes everything else out

Nobody is believed whom the settings do not name. No header ever decides a URL.
"""
