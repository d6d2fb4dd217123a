"""A Triton backend that only exists: with TRITON_INTERPRET=1 nothing is ever compiled for it."""
