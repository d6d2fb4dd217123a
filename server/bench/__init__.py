"""The measurements of `bindserve bench server`. The server does not use this package."""
