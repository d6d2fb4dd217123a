"""Compute the one embedding that conditions the answer to a request, from the request's
attachments.
"""
