"""From a request's attachments to the one embedding that conditions its answer."""
