"""The HTTP API: the application, its routes and middleware, and the processes that serve it."""
