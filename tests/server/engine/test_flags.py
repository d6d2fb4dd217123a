"""Parsing of vLLM's flags, for which bindserve has its own defaults."""

from pathlib import Path

import pytest

from server.engine import flags as vllm_args
from server.engine.flags import UsageError, api_keys, free_memory, parse
from server.settings import Settings

GiB = 1 << 30


def settings(*flags: str, **others: object) -> Settings:
    return Settings(model=Path("folder/seven"), vllm_args=flags, **others)  # type: ignore[arg-type]


def test_server_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_args, "free_memory", lambda: 8 * GiB)
    args = parse(settings(port=9000))
    assert (args.model, args.served_model_name) == ("folder/seven", ["seven"])
    assert (args.host, args.port) == ("127.0.0.1", 9000)
    assert (args.shutdown_timeout, args.enable_prefix_caching) == (30, True)
    assert not args.disable_log_stats
    assert args.allowed_origins == []
    assert args.kv_cache_memory_bytes == 2 * GiB
    assert not args.enable_prompt_tokens_details


def test_the_page_shows_cached_tokens() -> None:
    assert parse(settings(page=True)).enable_prompt_tokens_details
    args = parse(settings("--no-enable-prompt-tokens-details", page=True))
    assert not args.enable_prompt_tokens_details


def test_the_key_value_cache_is_modest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_args, "free_memory", lambda: 1000 * GiB)
    assert parse(settings()).kv_cache_memory_bytes == 4 * GiB


@pytest.mark.parametrize(
    ("flags", "backend"),
    [
        ((), "xgrammar"),
        (("--structured-outputs-config", '{"backend": "auto"}'), "xgrammar"),
        (("--structured-outputs-config.backend", "guidance"), "guidance"),
    ],
)
def test_other_backends_of_structured_outputs_need_a_flag(
    flags: tuple[str, ...], backend: str
) -> None:
    assert parse(settings(*flags)).structured_outputs_config.backend == backend


def test_the_operators_flags_win() -> None:
    flags = ("--host=0.0.0.0", "--shutdown-timeout=5", "--kv-cache-memory-bytes=1000000")
    more = ("--max-model-len", "512", "--served-model-name", "a", "b")
    args = parse(settings(*flags, *more, no_auth=True))
    assert (args.host, args.shutdown_timeout, args.max_model_len) == ("0.0.0.0", 5, 512)
    assert args.kv_cache_memory_bytes == 1_000_000
    assert args.served_model_name == ["a", "b"]


@pytest.mark.parametrize(
    "flags",
    [
        ("another/model",),
        ("--headless",),
        ("--grpc",),
        ("--api-server-count=0",),
    ],
)
def test_an_error_names_the_flag(flags: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        parse(settings(*flags))
    assert flags[0].partition("=")[0] in str(caught.value)


def test_calls_of_tools_are_parsed_without_a_flag() -> None:
    args = parse(settings())
    assert args.enable_auto_tool_choice
    assert args.tool_call_parser == "gpt4tools"
    assert args.exclude_tools_when_tool_choice_none
    assert parse(settings("--tool-call-parser=hermes")).tool_call_parser == "hermes"
    assert not parse(settings("--no-enable-auto-tool-choice")).enable_auto_tool_choice


def test_an_unknown_flag_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(settings("--no-such-flag"))
    assert caught.value.code == 2
    assert "--no-such-flag" in capsys.readouterr().err


def test_keys_in_vllms_own_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    assert api_keys(parse(settings())) == []
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    assert api_keys(parse(settings())) == ["secret"]
    assert api_keys(parse(settings("--api-key", "a", "b"))) == ["a", "b"]


def test_free_memory_knows_the_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_args, "CGROUP", tmp_path)
    machine = free_memory()  # Without a control group, this is the machine's free memory.
    assert machine > 1 << 20
    (tmp_path / "memory.max").write_text("2000000\n")
    (tmp_path / "memory.current").write_text("500000\n")
    assert free_memory() == 1_500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() > 1_500_000


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.2", "server.lan", "128.0.0.1"])
def test_other_machines_need_keys_or_no_auth(host: str) -> None:
    # Set the host with bindserve's setting or with vLLM's flag.
    for flags in ((), ("--host", host)):
        chosen = "127.0.0.1" if flags else host
        with pytest.raises(UsageError, match="--no-auth"):
            parse(settings(*flags, host=chosen))
        assert parse(settings(*flags, host=chosen, no_auth=True)).host == host
        assert parse(settings(*flags, host=chosen, api_key_file="keys")).host == host
        assert parse(settings(*flags, "--api-key", "k", host=chosen)).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_needs_no_keys(host: str) -> None:
    assert parse(settings(host=host)).host == host
