"""Measurements of the experts on many texts, as scripts. They are not part of the test suite."""
