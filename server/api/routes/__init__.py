"""The routes: each turns a request into a response."""
