"""Structured output: bounds on what clients send to be compiled, and compilation checks."""
