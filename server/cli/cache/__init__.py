"""`bindserve cache ...`: build, inspect, change and serve retrieval caches."""
