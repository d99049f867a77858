# %% [markdown]
# # 01 Multi-head attention
#
# * **You will be able to** write multi-head attention from four linear layers and a softmax; name every shape on the way; see what a hidden token looks at.
# * **Time**: about 50 minutes for you, without "Go further". The machine needs less than a minute.
# * **Needs**: nothing from earlier notebooks.

# %%
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3

lab = lab3.start("01")

# %% [markdown]
# ## A token asks the others
#
# A picture is 256 tokens, and some of them are hidden. To guess a hidden token the model has to look at the others: at its
# neighbours for the colour of the fur, across the face for the second eye. Attention does that looking.
#
# Every token $x_t$, a vector of width $D$, is turned into three vectors by three linear layers:
#
# * a **query** $q_t = W_q x_t + b_q$: what this token wants to know,
# * a **key** $k_t = W_k x_t + b_k$: what this token can be asked for,
# * a **value** $v_t = W_v x_t + b_v$: what it answers.
#
# The score of token $t$ for token $s$ is $q_t \cdot k_s$. A softmax over $s$ turns the scores of one query into weights that
# add up to 1, and the output of token $t$ is the weighted sum of the values:
#
# $$\mathrm{attention}(q, k, v) = \underbrace{\mathrm{softmax}\!\left(\frac{q k^\top}{\sqrt d}\right)}_{(T,\, T)\ \text{weights, rows add up to 1}} \underbrace{v}_{(T,\, d)}$$
#
# **Predict.** Three tokens have the same key. What are the weights of any query, and what does every token receive?

# %% tags=["nbval-check-output"]
q = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-1.0, 1.0]])  # (T, d), three different queries
k = torch.ones(3, 2)  # three equal keys
v = torch.tensor([[0.0, 3.0], [3.0, 0.0], [6.0, 6.0]])
weights = torch.softmax(q @ k.T / math.sqrt(2), dim=-1)  # (T, T)
print("weights", weights)
print("output ", weights @ v)

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# A query cannot tell equal keys apart, so every weight is 1/3 and every token receives the mean of the values, (3, 3).
# Attention chooses by *differences* between keys: add the same number to all scores of a row and nothing changes.
#
# </details>
#
# ## Why divide by $\sqrt d$?
#
# **Predict.** The entries of $q$ and $k$ are independent, with mean 0 and variance 1. What is the variance of $q \cdot k$, a sum
# of $d$ products? What does a softmax make of scores that large?

# %%
from lab3.common import plots

generator = torch.Generator().manual_seed(1)
# d -> q k for 256 tokens, the same in both panels
scores = {d: torch.randn(256, d, generator=generator) @ torch.randn(d, generator=generator)
          for d in (4, 48, 768)}
page = plots.figure(7.5, 2.6, "Unscaled, the wider the vectors, the more one token takes all.")
for axes, power in zip(page.subplots(1, 2, sharey=True), (0, -0.5)):
    for (d, score), colour in zip(scores.items(), plots.COLOURS.values()):
        weights = (score * d**power).softmax(0).sort(descending=True).values  # (256,)
        axes.plot(weights[:12], "o-", color=colour, label=f"d = {d}", markersize=4)
    axes.set_title("softmax of q k / √d" if power else "softmax of q k", fontsize=10)
    axes.set_xlabel("token, by weight")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
page.axes[0].set_ylabel("weight among 256 tokens")
page

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# The variance is $d$, so scores grow like $\sqrt d$. Unscaled, at $d = 768$ the largest score takes nearly all the weight, and a
# softmax that is nearly 0 or 1 passes on almost no gradient. Divided by $\sqrt d$, the scores have variance 1 whatever $d$ is.
#
# </details>
#
# ## Several heads, side by side
#
# One softmax gives a token one way to look. With $H$ heads it has $H$ ways: the $D$ entries of $q$, $k$ and $v$ are cut into $H$
# pieces of width $d = D / H$, each head attends with its own piece, and the pieces are put side by side again. A last linear
# layer mixes them. **The scale is the root of a head's width**, $\sqrt{d} = \sqrt{D / H}$, since the vectors that are
# multiplied have $d$ entries.
#
# | what | shape | here |
# |---|---|---|
# | input `x` | `(B, T, D)` | `(2, 256, 768)` |
# | `query(x)`, `key(x)`, `value(x)` | `(B, T, D)` | `(2, 256, 768)` |
# | each of them in heads | `(B, H, T, d)` | `(2, 16, 256, 48)` |
# | scores and weights | `(B, H, T, T)` | `(2, 16, 256, 256)` |
# | weighted values | `(B, H, T, d)` | `(2, 16, 256, 48)` |
# | side by side, and `output(...)` | `(B, T, D)` | `(2, 256, 768)` |
#
# From `(B, T, D)` to `(B, H, T, d)` takes two moves, and their order matters. **Predict** which of these two lines keeps the
# numbers of one token together.

# %% tags=["nbval-check-output"]
y = torch.tensor([[[10, 11, 12, 13], [20, 21, 22, 23], [30, 31, 32, 33]]])  # (B=1, T=3, D=4)
print("view, then transpose:", y.view(1, 3, 2, 2).transpose(1, 2).tolist())
print("view alone:          ", y.view(1, 2, 3, 2).tolist())

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# Both have shape `(1, 2, 3, 2)`. In the first, head 0 holds the first halves of tokens 1, 2, 3: `[10, 11], [20, 21], [30, 31]`.
# In the second, head 0 holds `[10, 11], [12, 13], [20, 21]`: token 1 twice, token 3 not at all. `view` only cuts memory into
# other lengths; it never moves a number. Nothing complains, because the shapes fit. You will meet this again at the end.
#
# </details>
#
# ## First step: one head
#
# *About 5 minutes, easy, not graded.* Write the formula of the first section as a function. `@` multiplies the last two axes
# and leaves those before them alone, so the same lines serve one head and many.

# %%
from lab3.notebook.practice import practice


def attend(q, k, v):
    """softmax(q k^T / sqrt(d)) v for q, k, v (..., T, d), the softmax over keys: (..., T, d)."""
    ### BEGIN SOLUTION
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return scores.softmax(dim=-1) @ v
    ### END SOLUTION

# %% tags=["nbval-check-output"]
many = torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0))  # q, k, v in 4 heads
practice(attend, ((q, k, v), torch.full((3, 2), 3.0)),  # the three equal keys above
         (tuple(many), F.scaled_dot_product_attention(*many)))

# %% [markdown]
# ## Exercise: `multi_head_attention`
#
# *About 20 minutes, medium.*
#
# Write it from `nn.Linear`, matrix products and a softmax. Ready-made attention (`nn.MultiheadAttention`,
# `F.scaled_dot_product_attention` and the like) is not allowed here: you are building it.
#
# * Submodules `query`, `key`, `value`, `output`: `nn.Linear(dim, dim)`, and `attn_drop`: `nn.Dropout(attn_drop)`, which drops
#   *weights*, after the softmax. With these names the kit's trained weights fit your class.
# * A `dim` that is not a multiple of `num_heads` raises a `ValueError` that names it.
#
# <details><summary>Hint 1: where to begin</summary>
#
# Write the shapes of the table above as comments, one a line, and fill in the line that leads from each to the next.
#
# </details>
# <details><summary>Hint 2: the products</summary>
#
# `@` multiplies the last two axes and leaves those before them alone, so all heads of all pictures go in one product. To get
# `(B, H, T, T)` from two tensors `(B, H, T, d)`, one of them has to be transposed in its last two axes.
#
# </details>
# <details><summary>Hint 3: back again</summary>
#
# Undo the two moves in the opposite order: first bring the heads next to their width, then join the two axes. After a transpose
# `view` fails, because the numbers are no longer in order in memory; `reshape` copies them into order.
#
# </details>
# <details><summary>Hint 4: an outline</summary>
#
# `__init__`: refuse a `dim` that is not a multiple; keep `num_heads`; make the four layers and the dropout. `forward`: read
# `B, T, D` off `x`; put `query(x)`, `key(x)` and `value(x)` into heads; scores, scaled; softmax over the last axis; dropout on
# the weights; weights times values; heads side by side again; `output`. That is `attend` with a dropout in the middle.
#
# </details>

# %%
#| exercise: multi_head_attention
class MultiHeadAttention(nn.Module):
    """Self-attention over all tokens, without a ready-made attention.

    Args:
        dim: D, the width of a token.
        num_heads: H, how many heads; dim must be a multiple of it.
        attn_drop: the share of attention weights that is dropped in training.
    """

    def __init__(self, dim=768, num_heads=16, attn_drop=0.1):
        super().__init__()
        ### BEGIN SOLUTION
        if dim % num_heads:
            raise ValueError(f"dim ({dim}) must be a multiple of num_heads ({num_heads})")
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)
        self.attn_drop = nn.Dropout(attn_drop)
        ### END SOLUTION

    def forward(self, x):
        """x (B, T, dim) -> (B, T, dim)."""
        ### BEGIN SOLUTION
        B, T, D = x.shape
        d = D // self.num_heads

        def heads(y):
            return y.view(B, T, self.num_heads, d).transpose(1, 2)  # (B, H, T, d)

        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        scores = (q * d**-0.5) @ k.transpose(-2, -1)  # (B, H, T, T)
        weights = self.attn_drop(scores.softmax(dim=-1))
        mixed = (weights @ v).transpose(1, 2).reshape(B, T, D)
        return self.output(mixed)
        ### END SOLUTION

# %%
lab.check("multi_head_attention")

# %% [markdown]
# **Predict.** Nothing in your class says *where* a token is. What becomes of the output when the tokens of `x` are shuffled?

# %% tags=["nbval-check-output"]
attention = MultiHeadAttention(dim=48, num_heads=4).eval()
x, order = torch.randn(2, 256, 48), torch.randperm(256)
same = torch.allclose(attention(x[:, order]), attention(x)[:, order], atol=1e-5)
print("shuffled tokens give the same outputs, shuffled likewise:", same)

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# To attention a picture is a set of tokens, not a grid. A token knows its place because the transformer adds a vector for each
# place to the tokens before the first layer (`place_embedding` in `lab3/model/transformer.py`).
#
# </details>
#
# ## Put it to work
#
# The kit's transformer takes any attention class; this one has six layers with *your* attention in them, and trained weights.
# First: does it predict? All test pictures have a hole. For 64 of them the model predicts every hidden token in one go. (A
# random guess among 1,024 codes is right one time in a thousand.)

# %%
from lab3.data.masks import hidden_tokens
from lab3.model.transformer import MASK_TOKEN_ID

transformer = lab.shipped()
mask = hidden_tokens(lab.data.holes[:64]).to(lab.device)  # (64, 256), True: hidden
z_indices = lab.tokenizer.encode(lab.data.test[:64]).to(lab.device)  # (64, 256)


@torch.no_grad()
def predict(transformer):
    """The most likely code at every place of the 64 pictures, (64, 256)."""
    logits = transformer(torch.where(mask, MASK_TOKEN_ID, z_indices))
    return logits[..., :MASK_TOKEN_ID].argmax(dim=-1)


def share_right(transformer):
    """The share of hidden tokens that the transformer predicts exactly."""
    return (predict(transformer) == z_indices)[mask].float().mean().item()


print(f"right: {share_right(transformer):.0%} of {int(mask.sum())} hidden tokens")

# %% [markdown]
# Next: where does it look? Your attention weights, `(B, H, T, T)`, pass through the dropout module `attn_drop`, so a hook on
# it can keep them. Below, the token marked in orange is hidden, and each map shows the weights of *its* query on all 256
# tokens, laid out like the picture.
#
# **Predict.** In the first layer the token knows nothing but its place, and that it is hidden. Where will it look? What will the
# hole itself look like in these maps?

# %%
kept = []  # the weights of each layer, for 16 pictures: (16, H, T, T)


def keep(module, inputs, output):
    kept.append(output[:16].float().cpu())


hooks = [layer.attention.attn_drop.register_forward_hook(keep) for layer in transformer.layers]
predict(transformer)
for hook in hooks:
    hook.remove()

picture = 5
token = int(mask[picture].nonzero()[mask[picture].sum() // 2])  # a token in the middle of the hole
page = plots.figure(
    7.4, 9.6, "Bright is where the marked token looks (square root of the weight).")
grid = page.subplots(len(kept), len(kept[0][0]) + 1)
for depth, (line, weights) in enumerate(zip(grid, kept)):
    plots.show(line[0], lab.data.masked[picture], "what it sees" if depth == 0 else None)
    line[0].add_patch(plots.token_frame(token, 64))
    line[0].set_ylabel(f"layer {depth + 1}", fontsize=9)
    for head, axes in enumerate(line[1:]):
        axes.imshow(weights[picture, head, token].view(16, 16).sqrt(), cmap="magma", vmin=0)
        axes.add_patch(plots.token_frame(token, 16))
        plots.bare(axes, f"head {head + 1}" if depth == 0 else None)
page

# %% [markdown]
# Heads divide the work without being told to: some stay at the near edge of the hole, some take in the whole cat.
#
# **Predict.** In these 16 pictures a third of the tokens are hidden. What share of its weight does a hidden token give to hidden
# tokens in the first layer, and in the last?

# %%
hidden = mask[:16].cpu()
print(f"share of tokens that is hidden: {hidden.float().mean():.2f}")
for depth, weights in enumerate(kept):
    # (16, T), mean of heads
    on_hidden = (weights * hidden[:, None, None, :]).sum(dim=-1).mean(dim=1)
    print(f"layer {depth + 1}: weight of hidden tokens on hidden tokens "
          f"{on_hidden[hidden].mean():.2f}")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# Early on, hidden tokens get far less than their share: they carry no information yet, and the hole stays dark in the maps. By the
# last layers they get about their share, as they now carry what the earlier layers gathered. A map shows where a token looks, not
# what it makes of what it sees: read it as a hint, not an explanation.
#
# </details>
#
# ## What goes wrong: heads that mix tokens
#
# The most common bug in this exercise is the second line of the small example above: `view(B, H, T, d)` without a transpose. Every
# shape fits, no error is raised, and training even makes progress. Here is that bug in the trained model. The wrapper puts the
# numbers that leave a linear layer where the wrong `view` would have put them.
#
# **Predict.** How many hidden tokens will the model still get right?

# %%
lab.predict("scrambled_heads", ...)  # your guess: what share stays right, in %


class Scrambled(nn.Module):
    """A linear layer followed by what `view(B, H, T, d)` does instead of view and transpose."""

    def __init__(self, linear, num_heads):
        super().__init__()
        self.linear, self.num_heads = linear, num_heads

    def forward(self, x):
        B, T, D = x.shape
        y = self.linear(x).view(B, self.num_heads, T, D // self.num_heads)
        return y.transpose(1, 2).reshape(B, T, D)


broken = lab.shipped()
for layer in broken.layers:
    for name in ("query", "key", "value"):
        linear = getattr(layer.attention, name)
        setattr(layer.attention, name, Scrambled(linear, transformer.config.heads))
whose = lab.label("multi_head_attention", "your attention")
print(f"right with {whose}: {share_right(transformer):.0%}")
print(f"right with scrambled heads: {share_right(broken):.0%}")
lab.observe("scrambled_heads", 100 * share_right(broken))

pasted = {}
for label, model in {"scrambled\nheads": broken, whose.replace(" ", "\n"): transformer}.items():
    filled = torch.where(mask, predict(model), z_indices)[:8]
    decoded = lab.tokenizer.decode(filled)
    pasted[label] = torch.where(lab.data.holes[:8, None], decoded, lab.data.masked[:8])
plots.comparison(
    {"masked": lab.data.masked[:8]} | pasted | {"original": lab.data.test[:8]},
    "Every hidden token predicted at once. The bug raises no error; a picture shows it.")

# %% [markdown]
# **Repair it.** Write the two moves as two functions, each undoing the other. The cell after them tests them as you
# should test every reshape: on numbers that say where they come from.

# %%
def split_heads(y, num_heads):
    """(B, T, D) -> (B, H, T, d), the numbers of a token staying together."""
    ### BEGIN SOLUTION
    B, T, D = y.shape
    return y.view(B, T, num_heads, D // num_heads).transpose(1, 2)
    ### END SOLUTION


def join_heads(y):
    """(B, H, T, d) -> (B, T, D): undoes `split_heads`."""
    ### BEGIN SOLUTION
    B, H, T, d = y.shape
    return y.transpose(1, 2).reshape(B, T, H * d)
    ### END SOLUTION

# %% tags=["nbval-check-output"]
# every number of token t is t; contiguous, so that a wrong view goes through and is found out
numbered = torch.arange(5).view(1, 5, 1).repeat(2, 1, 12)
in_heads = split_heads(numbered, 3)
assert in_heads.shape == (2, 3, 5, 4), f"expected (2, 3, 5, 4), got {tuple(in_heads.shape)}"
assert (in_heads == torch.arange(5).view(1, 1, 5, 1)).all(), \
    "a head mixes different tokens: cut D into heads first, then exchange the axes"
y = torch.arange(120).view(2, 5, 12)
assert torch.equal(join_heads(split_heads(y, 3)), y), "join_heads does not undo split_heads"
print("every head holds every token, and the way back is the way there")

# %% [markdown]
# ## Explain
#
# Answer in two or three sentences each, in the cell below. No code. Your course may mark these.
#
# 1. A classmate divides the scores by the root of `dim` and has 16 heads. By which factor are the scores too small, and what does
#    that do to the weights?
# 2. Dropout acts on the weights, after the softmax. What would a token receive from a key whose *score* is set to 0 before it?
# 3. Name a test that finds scrambled heads in a new, untrained attention. What does it compare?

# %% [markdown]
# *Your answers:*
#
# 1. …
# 2. …
# 3. …

# %% [markdown]
# ## To think about
#
# * The weights are `(T, T)` for each head. What does attention cost in time and memory when a picture has four times as many tokens?
#   <details><summary>Answer</summary>Sixteen times as many weights, to compute and to keep.</details>
# * A model that writes text may not look at words that are still to come; its scores get a mask before the softmax. Why
#   does ours not need one, although some tokens are hidden?
# * The transformer is one page, `lab3/model/transformer.py`. What does each layer add to its input, and why add rather than replace?
#
# To read on: [*Attention Is All You Need*](https://arxiv.org/abs/1706.03762) (Vaswani et al., 2017);
# [*MaskGIT*](https://arxiv.org/abs/2202.04200) (Chang et al., 2022), which this lab rebuilds.
#
# ## Go further
#
# Two tasks beyond the lab, each with its own check. Neither is graded.
#
# **Looking back only** (*10 minutes, easy*). In a model that writes text, token $t$ may look at tokens up to $t$. Give the
# scores of later tokens a value that the softmax turns into 0, and return the weights.

# %%
def causal_weights(scores):
    """scores (..., T, T) -> weights (..., T, T): each row adds up to 1, later tokens get 0."""
    ### BEGIN SOLUTION
    T = scores.shape[-1]
    later = torch.ones(T, T, dtype=torch.bool, device=scores.device).triu(diagonal=1)
    return scores.masked_fill(later, -torch.inf).softmax(dim=-1)
    ### END SOLUTION

# %% tags=["nbval-check-output"]
q, k, v = many
causal = F.scaled_dot_product_attention(q, k, v, is_causal=True)
practice(causal_weights,
         ((torch.zeros(3, 3),), torch.tensor([[6, 0, 0], [3, 3, 0], [2, 2, 2]]) / 6),
         ((q @ k.transpose(-2, -1) / math.sqrt(6),),
          lambda weights: "" if torch.allclose(weights @ v, causal, atol=1e-5)
          else "weights @ v differs from PyTorch's attention with is_causal=True"))

# %% [markdown]
# **Without the large matrix** (*30 minutes, hard*). The `(T, T)` weights take most of attention's memory, yet they need never
# exist all at once. Go through the keys a few at a time. Keep three things for each query: the largest score so far $m$, the sum
# of $e^{\text{score} - m}$, and the sum of $e^{\text{score} - m}$ times the values. When a larger score comes, both sums shrink
# by the same factor.

# %%
def attend_in_parts(q, k, v, size):
    """What `attend` gives, with at most `size` keys at a time; q, k, v (..., T, d)."""
    ### BEGIN SOLUTION
    largest = torch.full_like(q[..., :1], -torch.inf)  # (..., T, 1)
    total, mixed = torch.zeros_like(largest), torch.zeros_like(q)
    for keys, values in zip(k.split(size, dim=-2), v.split(size, dim=-2)):
        scores = q @ keys.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (..., T, size)
        before, largest = largest, torch.maximum(largest, scores.amax(dim=-1, keepdim=True))
        shrink, weights = (before - largest).exp(), (scores - largest).exp()
        total = shrink * total + weights.sum(dim=-1, keepdim=True)
        mixed = shrink * mixed + weights @ values
    return mixed / total
    ### END SOLUTION

# %% tags=["nbval-check-output"]
whole, steep = F.scaled_dot_product_attention(q, k, v), F.scaled_dot_product_attention(99 * q, k, v)
practice(attend_in_parts, ((q, k, v, 5), whole), ((q, k, v, 2), whole), ((99 * q, k, v, 1), steep))

# %% [markdown]
# Next: [02 Masked token modelling](02_masked_token_modelling.ipynb), where you build what the transformer learns from.
