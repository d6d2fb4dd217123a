"""Tests of functions in server/api/launch/engine.py. The tests in tests/serving start whole
servers.
"""

import inspect
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from vllm.entrypoints.launchers.api_server.entry import build_and_serve
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

from server.api.launch.engine import log_like_vllm, uvicorn_options
from server.settings import Settings

ROOMS = ("server", "model_ext", "cache_index")


@pytest.fixture
def _loggers() -> Iterator[None]:
    loggers = [logging.getLogger(room) for room in ROOMS]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.mark.usefixtures("_loggers")
def test_log_lines_have_vllms_format(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = logging.getLogger("vllm")
    monkeypatch.setattr(theirs, "handlers", [logging.NullHandler()])
    monkeypatch.setattr(theirs, "level", logging.INFO)
    log_like_vllm()
    for room in ROOMS:
        ours = logging.getLogger(f"{room}.any")
        assert ours.getEffectiveLevel() == theirs.level
        assert logging.getLogger(room).handlers == theirs.handlers


def test_uvicorn_gets_every_option_that_vllm_sets() -> None:
    """The server passes vLLM's options for TLS, headers and timeouts to uvicorn.

    The test fails if a new version of vLLM adds an option.
    """
    args = make_arg_parser(FlexibleArgumentParser()).parse_args([])
    args.bindserve = Settings(model=Path())
    source = inspect.getsource(build_and_serve).partition("serve_http(")[2]
    options = {line.partition("=")[0].strip() for line in source.splitlines() if "=" in line}
    assert options - {"sock", "enable_ssl_refresh", "peer_loads"} == uvicorn_options(
        args
    ).keys() - {"http", "forwarded_allow_ips"}


def test_only_the_trusted_proxies_may_name_the_clients_address() -> None:
    args = make_arg_parser(FlexibleArgumentParser()).parse_args([])
    for proxies in ([], ["10.0.0.0/8"]):
        args.bindserve = Settings(model=Path(), trusted_proxies=proxies)
        assert uvicorn_options(args)["forwarded_allow_ips"] == proxies
