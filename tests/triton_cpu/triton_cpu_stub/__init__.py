"""A Triton backend without a compiler: with TRITON_INTERPRET=1, Triton compiles nothing."""
