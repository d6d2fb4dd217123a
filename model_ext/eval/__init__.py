"""Evaluation: the paper's tables 1 to 4. Reads data sets, scores answers, renders tables.

Imports only the standard library, numpy and pydantic. It sends no requests and loads no model.
"""
