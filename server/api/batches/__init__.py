"""Batches in OpenAI's format (/v1/batches): a file of requests that run in the background."""
