import pytest
import torch
from torch import nn

from model_ext.imagebind.transformer import Attention, Transformer, init_weights


@pytest.mark.parametrize(("bias_kv", "causal"), [(False, False), (True, False), (False, True)])
def test_attention_equals_torchs_own(bias_kv: bool, causal: bool) -> None:
    torch.manual_seed(0)
    ours = Attention(24, 3, bias_kv=bias_kv, causal=causal)
    theirs = nn.MultiheadAttention(24, 3, add_bias_kv=bias_kv, batch_first=True)
    theirs.in_proj_weight.data = ours.qkv_proj.weight.data
    theirs.in_proj_bias.data = ours.qkv_proj.bias.data
    theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    if bias_kv:
        assert ours.bias_k is not None
        assert ours.bias_v is not None
        assert theirs.bias_k is not None
        assert theirs.bias_v is not None
        ours.bias_k.data = theirs.bias_k.data
        ours.bias_v.data = theirs.bias_v.data
    x = torch.randn(2, 7, 24)
    mask = torch.full((7, 7), -torch.inf).triu(1) if causal else None
    expected, _ = theirs(x, x, x, attn_mask=mask, need_weights=False)
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-6)


def test_causal_mask_over_an_extra_key_is_refused() -> None:
    with pytest.raises(ValueError, match="causal"):
        Attention(8, 2, bias_kv=True, causal=True)


def test_fresh_trunk_keeps_the_scale_of_its_input() -> None:
    """With initial weights, a deep trunk's outputs are about as large as its inputs."""
    torch.manual_seed(0)
    trunk = Transformer(64, 12, 4, 4, bias_kv=True).apply(init_weights)
    x = torch.randn(4, 9, 64)
    ratio = (trunk(x).std() / x.std()).item()
    assert 0.9 < ratio < 2
