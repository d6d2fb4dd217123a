"""Deployment and load tests, which run from a clone and are not part of the installed package."""
