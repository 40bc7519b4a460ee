"""Drivers: clients of each protocol on raw sockets with prepared keys, so that the driver is never the limit.

They speak to any server of their protocol, from outside, and know of Muster only what `quickstart.json` says.
"""
