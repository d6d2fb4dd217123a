"""ASGI middleware, which every request passes through before it reaches a route."""
