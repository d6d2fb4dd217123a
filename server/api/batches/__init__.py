"""Batches in OpenAI's format (/v1/batches): the requests in a file run in the background."""
