"""Readers of data sets and of answers. Files are untrusted: sizes and paths are checked."""
