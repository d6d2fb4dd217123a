"""`plugin.register`, which vLLM calls in each of its processes."""

import sys

import pytest
from llvmlite.binding import ffi

from model_ext import plugin


@pytest.mark.filterwarnings("ignore")  # vLLM causes these warnings
def test_vllm_may_look_through_all_modules_with_numba_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vllm.triton_utils.dispatcher import _rebind_kernels

    # trimesh must not be loaded: vLLM cannot read its placeholders for missing packages. Only
    # decoding processes load it.
    for name in [name for name in sys.modules if name.partition(".")[0] == "trimesh"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(ffi.lib._fntab, "__dict__", raising=False)
    with pytest.raises(AttributeError, match="_lib_fn_wrapper"):
        _rebind_kernels([])  # if this call no longer fails, remove the workaround in `register`
    plugin.register()
    _rebind_kernels([])
