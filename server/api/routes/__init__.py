"""The routes: from a request's body to its response."""
