"""Programs that check and measure a server of encoders alone, with real processes.

They take minutes, so they are not part of the tests. docs/measurements.md has their results.
"""
