"""Attachments: from a request's parts and files to bytes."""
