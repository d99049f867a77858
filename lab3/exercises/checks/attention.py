"""The checks of notebook 01: multi_head_attention.

In: the class that was written. Out: nothing where it is right, `CheckFailed` where it is not. Its output is compared
with that of nn.MultiheadAttention, right and with typical mistakes.
"""

import contextlib
import functools
import sys
from unittest.mock import patch

import torch
from torch import nn
from torch.nn import functional as F

from lab3.exercises.checks import tools
from lab3.exercises.checks.tools import (
    RESIDUAL,
    SPLIT,
    CheckFailed,
    expect,
    is_tensor,
    refuses,
    rng,
    suspect,
    takes,
    untouched,
)

LAYERS = ("query", "key", "value", "output")
READY_MADE = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def _attention(Attention, attn_drop=0.0):
    return _drawn(Attention(12, 3, attn_drop)).eval()


def _drawn(module):
    """The module with weights that depend on their names alone."""
    for name, one in module.named_parameters():
        nn.init.normal_(one, std=0.5 if name.endswith("weight") else 0.1, generator=rng(sum(name.encode())))
    return module


def _set(layer, weight, bias=0.0):
    """weight x identity, and the same bias everywhere."""
    with torch.no_grad():
        layer.weight.copy_(weight * torch.eye(len(layer.weight)))
        layer.bias.fill_(bias)


def attention_parts(Attention):
    """It has the layers query, key, value, output and attn_drop, and no others with weights."""
    attention = Attention(12, 3, 0.25)
    for one in attention.modules():
        expect(not isinstance(one, READY_MADE), "the four linear layers", f"a {type(one).__name__}",
               "ready-made attention is not allowed in this exercise")
    for name in LAYERS:
        layer = getattr(attention, name, None)
        fits = isinstance(layer, nn.Linear) and tuple(layer.weight.shape) == (12, 12) and layer.bias is not None
        expect(fits, f"{name}: nn.Linear(12, 12) for dim = 12", f"{name}: {layer}")
    drop = getattr(attention, "attn_drop", None)
    expect(isinstance(drop, nn.Dropout) and drop.p == 0.25, "attn_drop: nn.Dropout(0.25)", f"attn_drop: {drop}")
    keys, wanted = set(attention.state_dict()), {f"{name}.{kind}" for name in LAYERS for kind in ("weight", "bias")}
    expect(keys == wanted, "the eight weights and biases of the four layers in the state",
           f"also {', '.join(sorted(keys - wanted))}", "a buffer or layer more, and checkpoints no longer fit")


def attention_shape(Attention):
    """Its output has the shape of its input."""
    for B, T in ((2, 5), (1, 1)):
        x = torch.randn(T, B, 12).transpose(0, 1)  # a layout that need not be contiguous
        with untouched(x=x):
            found = _attention(Attention)(x)
            squeezed = isinstance(found, torch.Tensor) and B == 1 and found.dim() < 3
            expect(not squeezed, f"the output of shape {(B, T, 12)}", "fewer axes",
                   "an axis of length 1 is squeezed away: name the axis, or reshape")
            is_tensor(found, (B, T, 12), torch.float32, "the output")


def attention_ready_made(Attention, namespace):
    """The attention is not ready-made."""
    def forbidden(*_, **__):
        raise CheckFailed("attention from linear layers, products and a softmax", "a call of ready-made attention",
                          "ready-made attention is not allowed in this exercise")

    flex = sys.modules.get("torch.nn.attention.flex_attention")  # it is there where the answer imports it
    places = [(F, "scaled_dot_product_attention"), (F, "multi_head_attention_forward"),
              (nn.MultiheadAttention, "forward"), (nn.TransformerEncoderLayer, "forward"),
              (nn.TransformerDecoderLayer, "forward")] + ([(flex, "flex_attention")] if flex else [])
    ready = [getattr(owner, name) for owner, name in places]
    for name, value in list(namespace.items()):
        if any(value is one for one in ready):
            namespace[name] = forbidden
    with contextlib.ExitStack() as stack:
        for owner, name in places:
            stack.enter_context(patch.object(owner, name, forbidden))
        _attention(Attention)(torch.randn(2, 5, 12))


def attention_averages(Attention):
    """Where all scores are alike, each place takes the average of all places, in every head."""
    attention, x = _attention(Attention), torch.randn(2, 5, 12)
    for name, weight in (("query", 0), ("key", 0), ("value", 1), ("output", 1)):
        _set(getattr(attention, name), weight)
    found, mean = attention(x), x.mean(dim=1, keepdim=True).expand(2, 5, 12)
    so_far, order = x.cumsum(dim=1) / torch.arange(1, 6)[:, None], torch.arange(12).view(4, 3).T.flatten()
    reason = suspect(found.detach(), [
        (mean * 0, "without a softmax the weights are the scores themselves"),
        (so_far, "a causal mask: here each place may look at all places"),
        (mean[..., order], SPLIT), (mean[..., order.argsort()], SPLIT),
    ], "the heads get mixed up with the places: after the cut into heads, the axes of heads and places must change "
       "order, and change back before the heads are joined")
    expect(torch.allclose(found, mean, atol=1e-5), "the average over the places", "something else", reason)


def attention_weights_sum(Attention):
    """The weights of each query sum to one: the softmax runs over the keys."""
    attention = _attention(Attention)
    _set(attention.value, 0, bias=1)
    _set(attention.output, 1)
    x = 2 * torch.randn(2, 5, 12)
    found = attention(x)
    _set(attention.value, 0, bias=2)
    reason = "the weights are not a softmax over the keys, the last axis"
    if torch.allclose(found, attention(x)):
        reason = "the layer value is not used: the values are made by another layer"
    elif torch.allclose(found - x, torch.ones(2, 5, 12), atol=1e-4):
        reason = RESIDUAL
    for axis, mean, text in (  # 5 places, 3 heads
            (1, 1.0, "the softmax runs over the queries: it belongs on the keys, the last axis"),
            (2, 5 / 3, "the softmax runs over the heads: it belongs on the keys, the last axis")):
        if torch.allclose(found.mean(dim=axis), torch.tensor(mean), atol=1e-4):
            reason = text
    expect(torch.allclose(found, torch.ones(2, 5, 12), atol=1e-4), "output 1 where all values are 1",
           f"{found.min():.3g} to {found.max():.3g}", reason)


def _torch_attention(layers, x, heads=3, query=1.0, key="key", value="value", output="output"):
    """nn.MultiheadAttention with the weights of some layers, the queries times `query`."""
    judge = nn.MultiheadAttention(x.shape[-1], heads, batch_first=True).eval()
    first, *others = (layers[name] for name in ("query", key, value))
    with torch.no_grad():
        judge.in_proj_weight.copy_(torch.cat([query * first.weight, *(one.weight for one in others)]))
        judge.in_proj_bias.copy_(torch.cat([query * first.bias, *(one.bias for one in others)]))
        judge.out_proj.load_state_dict(layers[output].state_dict())
        return judge(x, x, x, need_weights=False)[0]


@functools.cache
def formulas(seed):
    """An input, what PyTorch's attention gives for it, and (what a mistake gives, its reason), with `_drawn` weights.

    The grader takes PyTorch's attention away before an answer runs, and calls this first.
    """
    layers = _drawn(nn.ModuleDict({name: nn.Linear(12, 12) for name in LAYERS}))
    x = torch.randn(2, 5, 12, generator=rng(100))
    layers["nothing"] = nn.Linear(12, 12)
    _set(layers["nothing"], 1)
    mistakes = (  # heads have width 4, its root is 2: so much too large or too small are the scores
        (dict(query=2), "the scores are not divided by the root of the head's width"),
        (dict(query=3**-0.5), "the scores are divided by the root of dim: the width of one head is dim / num_heads"),
        (dict(query=(4 / 3) ** 0.5),
         "the scores are divided by the root of the number of heads: it is the head's width"),
        (dict(query=0.5), "the scores are divided by the head's width, without its root"),
        (dict(query=4), "the scores are multiplied by the root, not divided"),
        (dict(heads=1), "one head over the whole width: num_heads is not used"),
        (dict(heads=1, query=3**0.5), "one head over the whole width: the cut into heads is missing"),
        (dict(output="nothing"), "the last layer, output, is not used"),
        (dict(key="query"), "the keys are made by the layer query"),
        (dict(value="key"), "the values are made by the layer key"),
        (dict(value="query"), "the values are made by the layer query"),
    )
    wrong = [(_torch_attention(layers, x, **options), text) for options, text in mistakes]
    return x, _torch_attention(layers, x), wrong


def attention_formula(Attention):
    """It gives what nn.MultiheadAttention gives with the same weights, in eval mode."""
    attention, (x, expected, mistakes) = _attention(Attention, attn_drop=0.5), formulas(tools.SEED)
    with torch.no_grad():
        found, again = attention(x.clone()), attention(x.clone())
    expect(torch.equal(found, again), "the same output twice in eval mode", "two outputs",
           "dropout acts in eval mode too: use the layer attn_drop, which knows the mode")
    reason = suspect(found, mistakes)
    expect(torch.allclose(found, expected, rtol=1e-3, atol=1e-4), "the output of nn.MultiheadAttention",
           f"one that differs by up to {(found - expected).abs().max():.2g}", reason)


def attention_dropout(Attention):
    """In training, dropout acts on the attention weights."""
    x = torch.randn(4, 6, 12)
    attention = _attention(Attention, attn_drop=1.0)
    whole, found = attention(x), attention.train()(x)
    expect(not torch.allclose(found, whole), "another output with attn_drop = 1", "the same as without dropout",
           "attn_drop is not used")
    expect(bool((found != 0).any()), "with attn_drop = 1 the bias of the last layer", "zeros",
           "dropout acts on the output: it belongs on the weights, after the softmax")
    expect(torch.allclose(found, attention.output.bias.expand_as(found), atol=1e-5),
           "with attn_drop = 1 the bias of the last layer", "something else",
           "dropout acts on the scores or inputs: it belongs on the weights, after the softmax")
    attention = _attention(Attention, attn_drop=0.5).train()
    _set(attention.value, 0, bias=1)
    _set(attention.output, 1)
    head = attention(x)[..., :4]  # all columns of a head share their weights
    expect(torch.allclose(head, head[..., :1].expand_as(head), atol=1e-5), "columns of one head dropped together",
           "columns dropped one by one",
           "dropout acts on the values or on the mixed heads: it belongs on the weights, before the values")


def attention_refuses(Attention):
    """A width that the heads do not divide is refused."""
    refuses("dim or num_heads", "dim 10 and num_heads 3", Attention, 10, 3)


def attention_learns(Attention):
    """Gradients reach all four layers, also in bfloat16."""
    attention, x = _attention(Attention), torch.randn(2, 6, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attention(x)
    expect(torch.allclose(found.float(), attention(x), rtol=0.1, atol=0.3), "nearly the same under autocast",
           "something else")
    found.float().square().sum().backward()
    for name in LAYERS:
        gradient = getattr(attention, name).weight.grad
        expect(gradient is not None and bool(gradient.any()), f"a gradient in {name}", "none",
               "the layer is not used, or its result is detached")


CHECKS = {
    "multi_head_attention": (
        takes(lambda dim=768, num_heads=16, attn_drop=0.1: None, a_class=True), attention_parts, attention_shape,
        attention_ready_made, attention_weights_sum, attention_averages, attention_formula, attention_dropout,
        attention_learns, attention_refuses),
}
