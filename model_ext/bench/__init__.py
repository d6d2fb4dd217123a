"""Side-by-side measurements: `bindserve bench engine|throughput|encoders|full-size`.

They run both compared programs in turn and report ratios, because absolute times vary on a shared
machine. The server does not use these modules.
"""
