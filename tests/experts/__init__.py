"""Scripts that measure the experts on many texts. They are not part of the test suite."""
