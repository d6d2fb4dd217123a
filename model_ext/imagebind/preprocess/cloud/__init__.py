"""Readers of point cloud formats: bytes -> (N, 3) float32, for at most `max_points` points."""
