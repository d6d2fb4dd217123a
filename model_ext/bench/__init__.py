"""Benchmarks that compare two programs: `bindserve bench engine|throughput|encoders|full-size`.
They run both programs alternately and report ratios, because absolute times vary on a shared
machine. The server does not use these modules.
"""
