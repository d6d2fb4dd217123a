"""Small bounded readers of point cloud formats: bytes -> (N, 3) float32."""
