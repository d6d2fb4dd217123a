"""`plugin.register`, which vLLM calls in each of its processes."""

import pytest
from llvmlite.binding import ffi

from model_ext import plugin


@pytest.mark.filterwarnings("ignore")  # The warnings come from vLLM.
def test_vllm_may_look_through_all_modules_with_numba_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vllm.triton_utils.dispatcher import _rebind_kernels

    monkeypatch.delitem(ffi.lib._fntab, "__dict__", raising=False)
    with pytest.raises(AttributeError, match="_lib_fn_wrapper"):
        _rebind_kernels([])  # If this call succeeds, remove the workaround in `register`.
    plugin.register()
    _rebind_kernels([])
