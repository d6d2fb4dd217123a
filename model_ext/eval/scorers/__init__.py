"""Scorers: pure functions that compare an answer with the correct answers ("truths") of a
question.
"""
