"""Scorers: pure functions of an answer and its truths. They change none of their arguments."""
