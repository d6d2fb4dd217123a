"""What `bindserve bench server` measures with: no part of the server itself."""
