"""Side-by-side measurements: `bindserve bench engine|throughput|encoders|full-size`.

They report ratios from interleaved pairs in one run, because absolute times vary on a shared
machine. Nothing here runs while the server serves.
"""
