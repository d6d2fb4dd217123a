"""Read attachments: find the content parts and files of a request, and get their bytes."""
