"""Decoding processes: each turns the bytes of one file at a time into a tensor, in a sandbox."""
