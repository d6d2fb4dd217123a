"""Routes and schemas of the servers, and names of their metrics."""

import ast
import re
from types import SimpleNamespace
from typing import Any

from tests.contract.sources import sources
from tests.contract.values import without_texts

METRIC_TYPES = {"Counter", "Gauge", "Histogram"}


def http() -> Any:
    """Return the OpenAPI document of an application with fake components, and the routes that are
    not in the document.
    """
    from tests.server.application import serve

    app = serve().app
    return {"openapi": without_texts(app.openapi()), "routes": routes(app)}


def cache_service() -> Any:
    from cache_index.metrics import CacheMetrics
    from cache_index.service import create_app

    owner: Any = SimpleNamespace(waiting=0, index=[], aclose=None)
    return routes(create_app(owner, CacheMetrics(), token="token"))


def routes(app: Any) -> list[str]:
    return sorted(
        f"{','.join(sorted(getattr(route, 'methods', None) or ()))} {route.path}"
        for route in app.routes
    )


def metrics() -> list[str]:
    """Return name, labels, buckets and mode of each of bindserve's metrics, read from the calls
    that declare them.
    """
    declared: list[str] = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in METRIC_TYPES and node.args:
                rest = [ast.unparse(item) for item in node.args[2:]]
                rest += [
                    f"{word.arg}={ast.unparse(word.value)}"
                    for word in node.keywords
                    if word.arg not in {"documentation", "registry"}
                ]
                if "bindserve" in (name := ast.unparse(node.args[0])):
                    declared.append(" ".join([ast.unparse(node.func), name, *rest]))
    return sorted(declared) + exposed_metrics()


def exposed_metrics() -> list[str]:
    """Return names and types of the metrics that the two servers expose before the first
    request.
    """
    from prometheus_client import generate_latest

    import server.metrics  # noqa: F401
    from cache_index.metrics import CacheMetrics

    cache = CacheMetrics()
    cache.watch(SimpleNamespace(waiting=0, index=[]))  # type: ignore[arg-type]
    text = (generate_latest() + cache.text()).decode()
    return sorted(re.findall(r"^# TYPE (bindserve_.*)$", text, re.MULTILINE))
