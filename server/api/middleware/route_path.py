"""The path of a request as the router sees it: without --root-path.

All middleware that compares paths uses this function, because a proxy may leave the root path in
the URL. Starlette has no public function for this path.
"""

from starlette._utils import get_route_path
from starlette.types import Scope


def route_path(scope: Scope) -> str:
    return get_route_path(scope)
