"""Side-by-side measurements of the engine and the encoders: `bindserve bench engine|encoders`.

Ratios only, from interleaved pairs in one run, because absolute times of a shared machine mean
little. Nothing here runs while serving.
"""
