"""A Triton backend without a compiler. TRITON_INTERPRET=1 makes Triton interpret kernels."""
