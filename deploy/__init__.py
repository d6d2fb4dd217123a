"""Deployment and load tests. They run from a clone and are not part of the installed package."""
