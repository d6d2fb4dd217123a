"""The path of a request as the router sees it: without --root-path.

A proxy may leave the root path in the URL, so all middleware that compares paths uses this
function. Starlette has no public function for it.
"""

from starlette._utils import get_route_path
from starlette.types import Scope


def route_path(scope: Scope) -> str:
    return get_route_path(scope)
