"""Read attachments: from the content parts and files of a request to the bytes of media."""
