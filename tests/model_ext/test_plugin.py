"""The code that runs in every process of vLLM."""

import pytest
from llvmlite.binding import ffi

from model_ext import plugin


@pytest.mark.filterwarnings("ignore")  # vLLM's search reads deprecated attributes
def test_vllm_may_look_through_all_modules_with_numba_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vllm.triton_utils.dispatcher import _rebind_kernels

    monkeypatch.delitem(ffi.lib._fntab, "__dict__", raising=False)
    with pytest.raises(AttributeError, match="_lib_fn_wrapper"):
        _rebind_kernels([])  # if this raises no error, the workaround is no longer needed
    plugin.register()
    _rebind_kernels([])
