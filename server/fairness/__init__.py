"""Share limited resources fairly between clients.

A client is an API key or, on a server without keys, an address (server/context.py).
"""
