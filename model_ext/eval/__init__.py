"""Evaluation: compute the scores in tables 1 to 4 of the ImageBind-LLM paper. This package reads
data sets, scores answers and renders tables. It imports only the standard library, numpy and
pydantic. It sends no requests and loads no model.
"""
