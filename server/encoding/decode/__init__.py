"""Decoding processes: from a file's bytes to a tensor, one file at a time, in a sandbox."""
