"""Structured output: limit the size of clients' grammars, and the cost to compile and use them."""
