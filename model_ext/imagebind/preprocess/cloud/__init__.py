"""Readers of point cloud formats: bytes -> (N, 3) float32, with a limit of points."""
