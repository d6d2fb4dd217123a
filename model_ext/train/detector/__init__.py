"""Train bindserve's own detector on composed drawings."""
