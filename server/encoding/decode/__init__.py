"""Decoding processes: turn the bytes of a file into a tensor, one file at a time, in a sandbox."""
