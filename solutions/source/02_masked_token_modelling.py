# %% [markdown]
# # 02 Masked token modelling
#
# * **You will be able to** write what the transformer learns from: masks of both kinds, the forward pass, the loss; say what a loss of 6.93 means, and one of 0.6; find a softmax that runs over the wrong axis.
# * **Time**: about 90 minutes for you, without "Go further". The machine needs one to two minutes.
# * **Needs**: `multi_head_attention` from notebook 01; without it PyTorch's own attention is used.

# %%
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3

lab = lab3.start("02")

# %% [markdown]
# ## Hide some, ask for them
#
# A transformer that has to fill holes learns by filling holes. Take the tokens of a whole picture, $z = (z_1, \dots, z_T)$,
# hide some of them, and ask for what was hidden. This needs no labels: the picture holds the answers.
#
# Let $M$ be the set of hidden places and $z_{\bar M}$ the tokens that are left. The transformer gives, for each place, a
# probability of each code, and the loss is the mean surprise at what was hidden:
#
# $$\mathcal L = -\frac{1}{|M|} \sum_{t \in M} \log p(z_t \mid z_{\bar M})$$
#
# This is the mean for one picture. For a batch, this lab pools: it takes one mean over the hidden tokens of all rows. Each
# hidden token counts the same, so a row with more hidden tokens counts for more.
#
# That makes three pieces, one exercise each:
#
# | exercise | what goes in | what comes out |
# |---|---|---|
# | `sample_mask` | how many rows, how many tokens | `mask`, `(B, T)`, bool, **True means hidden** |
# | `masked_forward` | `z_indices` `(B, T)`, `mask` | `logits` `(B, T, V)` and `targets` `(B, T)` |
# | `mvtm_loss` | `logits`, `targets`, `mask` | one number |
#
# Here `B` is the batch, `T` = 256 the tokens of a picture, `V` = 1024 the codes. (*mvtm* is masked visual token modelling.)
#
# ## How many to hide?
#
# In decoding, the model first sees a picture with a large hole. Then it sees the same picture with some of its own tokens in
# the hole, and then with more of them, until few are hidden. It meets *every* share.
# [BERT](https://arxiv.org/abs/1810.04805), the language model that this task comes from, always hides 15 % of the words; it
# would be lost in front of a large hole. So each picture draws its own share from the uniform distribution $U(0, 1)$.
#
# Given the share $r$, there are two ways to choose:
#
# * **topk**: exactly $n = \max(1, \lceil r T \rceil)$ tokens, all choices of $n$ places being equally likely;
# * **bernoulli**: each token on its own, with probability $r$. The number is then random too.
#
# Rounding up looks harmless. **Predict.** Fifty-four per cent of 100 tokens: what does $\lceil r T \rceil$ give, in float32
# and in float64? What do the other two give?

# %% tags=["nbval-check-output"]
for ratio, tokens in ((0.54, 100), (0.5 + 1e-8, 256), (0.07, 100)):
    for dtype in (torch.float32, torch.float64):
        product = torch.tensor(ratio, dtype=dtype) * tokens
        print(f"{ratio:<10} * {tokens}  {str(dtype):<13}  {product.item():.16f}  "
              f"rounded up: {math.ceil(product)}")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# A float32 holds about seven digits. 0.54 becomes a little more than 0.54, and rounding up gives 55. A share just above
# one half becomes exactly one half. In float64 both come out right. Even so, float64 does not remove the problem, as the
# last line shows: its 0.07 times 100 is $7 + 10^{-15}$, which rounds up to 8. **The contract says float64** to give
# everyone the same counts; grading never asks for a product that lies within $10^{-6}$ of a whole number without being
# one.
#
# </details>
#
# ## First step: a number and a ranking
#
# *About 10 minutes, easy, not graded.* Two small functions, and the exercise is one comparison away. `scores.argsort(dim=1)`
# lists the places of a row from the lowest score to the highest; the *rank* of a place is its position in that list.

# %%
from lab3.notebook.practice import practice


def how_many(ratio, tokens):
    """max(1, ceil(ratio * tokens)), the product in float64: ratio (batch,) -> (batch,) long."""
    ### BEGIN SOLUTION
    return (ratio.double() * tokens).ceil().clamp(min=1).long()
    ### END SOLUTION


def ranks(scores):
    """The rank of each score in its row, 0 for the lowest: (batch, tokens) long."""
    ### BEGIN SOLUTION
    return scores.argsort(dim=1).argsort(dim=1)
    ### END SOLUTION

# %% tags=["nbval-check-output"]
share = torch.tensor([0.0, 0.5, 0.54, 1.0], dtype=torch.float64)
practice(how_many, ((share, 100), torch.tensor([1, 50, 54, 100])),
         ((torch.tensor([0.5 + 1e-8], dtype=torch.float64), 256), torch.tensor([129])))
practice(ranks, ((torch.tensor([[0.2, 0.9, 0.1], [0.3, 0.4, 0.5]]),),
                 torch.tensor([[1, 2, 0], [0, 1, 2]])),
         ((torch.tensor([[7.0, 3.0, 9.0, 5.0]]),), torch.tensor([[2, 0, 3, 1]])))

# %% [markdown]
# ## Exercise: `sample_mask`
#
# *About 20 minutes, medium.*
#
# * `prob_type` is `"topk"` or `"bernoulli"`, as above.
# * `ratio` is the share to hide: a number for all rows, or a tensor `(batch,)` with one for each row. `None` draws **one for
#   each row** from $U(0, 1)$, for both types.
# * With `"topk"` each row hides exactly `max(1, ceil(ratio * tokens))` tokens, even at `ratio=0`, and chooses its own
#   places. With `"bernoulli"` a row may hide nothing at all.
# * The product `ratio * tokens` is taken in float64.
# * All randomness comes from `generator`: the same state gives the same mask. The mask is on `device`; if that is `None`,
#   on the generator's device, or without a generator on the CPU.
# * An unknown `prob_type` or a `ratio` outside [0, 1] raises a `ValueError` that names the argument. A `ratio` tensor
#   is not changed.
#
# <details><summary>Hint 1: random places, an exact number of them</summary>
#
# Give each token a random score. The $n$ tokens with the lowest scores are a uniformly random choice of $n$ tokens.
#
# </details>
# <details><summary>Hint 2: another number in each row</summary>
#
# `torch.topk` takes one `k` for all rows, so it does not help here. But a comparison takes a number for each row: if you
# knew the *rank* of each score in its row (0 for the lowest, 1 for the next), then `rank < n` with `n` of shape `(batch, 1)`
# would be the mask.
#
# </details>
# <details><summary>Hint 3: ranks</summary>
#
# `scores.argsort(dim=1)` lists the places from the lowest score to the highest. That is a permutation, and the rank asks the
# opposite question: at which position in this list is a place? Which function inverts a permutation?
#
# </details>
# <details><summary>Hint 4: an outline</summary>
#
# Refuse an unknown `prob_type`. Choose the device. Without a ratio, draw one per row. Make the ratio a float64 tensor, refuse
# values outside [0, 1], and give it the shape `(batch, 1)`. Draw a score for each token. `"bernoulli"`: which scores are below
# the ratio? `"topk"`: which ranks are below `how_many`?
#
# </details>

# %%
#| exercise: sample_mask
def sample_mask(batch, tokens, prob_type="topk", ratio=None, *, generator=None, device=None):
    """Choose which tokens to hide.

    Args:
        batch, tokens: how many rows, and how many tokens in each.
        prob_type: "topk" hides exactly max(1, ceil(ratio * tokens)) in each row, "bernoulli" each
            token with probability ratio.
        ratio: the share to hide, in [0, 1]: a number, or a tensor (batch,); None draws one for
            each row from U(0, 1).
        generator: a `torch.Generator` on `device`; all that is random comes from it.
        device: where the mask lies; None: where the generator is, else the CPU.

    Returns:
        (batch, tokens) bool, True means hidden.

    Raises:
        ValueError: another `prob_type`, or a `ratio` outside [0, 1].
    """
    ### BEGIN SOLUTION
    if prob_type not in ("topk", "bernoulli"):
        raise ValueError(f"prob_type must be 'topk' or 'bernoulli', not {prob_type!r}")
    if device is None:
        device = generator.device if generator is not None else "cpu"
    if ratio is None:
        ratio = torch.rand(batch, generator=generator, device=device)
    ratio = torch.as_tensor(ratio, dtype=torch.float64, device=device)
    if ratio.shape not in ((), (batch,)):
        raise ValueError(f"ratio must be one number or one a row, ({batch},), "
                         f"not of shape {tuple(ratio.shape)}")
    if not ((ratio >= 0) & (ratio <= 1)).all():
        raise ValueError("ratio must lie in [0, 1]")
    ratio = ratio.expand(batch)[:, None]  # (B, 1)
    scores = torch.rand(batch, tokens, generator=generator, device=device)
    if prob_type == "bernoulli":
        return scores < ratio
    n_hidden = (ratio * tokens).ceil().clamp(min=1)
    rank = scores.argsort(dim=1).argsort(dim=1)
    return rank < n_hidden
    ### END SOLUTION

# %%
lab.check("sample_mask")

# %% [markdown]
# Your masks, as pictures: a square is a token, dark where it is hidden.

# %%
from lab3.common import plots

generator = torch.Generator().manual_seed(3)
rows = {"topk,\nratio 0.5": sample_mask(8, 256, "topk", 0.5, generator=generator),
        "bernoulli,\nratio 0.5": sample_mask(8, 256, "bernoulli", 0.5, generator=generator),
        "topk,\nno ratio": sample_mask(8, 256, generator=generator)}
for label, mask in rows.items():
    print(label.replace("\n", " ").ljust(22), "hidden:", mask.sum(dim=1).tolist())
plots.comparison({label: torch.stack([plots.mask_picture(row) for row in mask])
                  for label, mask in rows.items()},
                 "One mask a picture. "
                 "Without a ratio, some rows hide nearly all and some hardly any.")

# %% [markdown]
# None of these masks looks like a hole: hidden and known tokens lie side by side, whereas a hole is in one piece. The model
# learns to fill holes from masks that are not holes. This works because the masks cover all shares, and many of them hide
# much of the picture.
#
# **Predict.** You draw 4,000 masks of each type and count what each hides. What do the two histograms look like at
# `ratio=0.5`? And without a ratio?

# %%
counts = {}
for title, ratio in {"ratio = 0.5": 0.5, "ratio = None": None}.items():
    counts[title] = {}
    for prob_type in ("topk", "bernoulli"):
        mask = sample_mask(4000, 256, prob_type, ratio, generator=generator)
        counts[title][prob_type] = mask.sum(dim=1)
plots.hidden_counts(counts,
                    "At a fixed ratio one type is exact, the other scatters. "
                    "Without a ratio both are flat.")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# At 0.5, topk is one bar at 128. Bernoulli is a bell with a standard deviation of $\sqrt{256 \cdot 0.5 \cdot 0.5} = 8$.
# Without a ratio both are flat: the spread of the ratio is so much wider than the bell that the two types can hardly be told
# apart. Which one to train with matters little.
#
# </details>
#
# ## The forward pass
#
# The transformer knows `V + 1` ids: the codes 0 ... 1023, and the **mask token** 1024, which takes a hidden token's place.
# It gives as many logits for each place:
#
# | what | shape | here |
# |---|---|---|
# | `z_indices`, the real tokens | `(B, T)` | `[[ 12, 700,   3, ...]]` |
# | what the transformer sees | `(B, T)` | `[[ 12, 1024,  3, ...]]` |
# | what it gives | `(B, T, V + 1)` | `(B, 256, 1025)` |
# | `logits`, over the codes | `(B, T, V)` | `(B, 256, 1024)` |
# | `targets` | `(B, T)` | `[[ 12, 700,   3, ...]]` |
#
# The last logit belongs to the mask token, and it is dropped. No picture holds a mask token, so it is never the right
# answer, and the tokenizer cannot draw it. If it stayed in, the model would have to spend training on learning what you
# already know.
#
# ## First step: hide
#
# *About 2 minutes, easy, not graded.*

# %%
def hide(z_indices, mask, mask_token_id):
    """(B, T) tokens with the mask token where hidden; z_indices stay as they are."""
    ### BEGIN SOLUTION
    return z_indices.masked_fill(mask, mask_token_id)
    ### END SOLUTION

# %% tags=["nbval-check-output"]
three = torch.tensor([[12, 700, 3]])
practice(hide, ((three, three == 700, 1024), torch.tensor([[12, 1024, 3]])),
         ((three, three < 0, 1024), torch.tensor([[12, 700, 3]])))  # once more, nothing hidden

# %% [markdown]
# ## Exercise: `masked_forward`
#
# *About 5 minutes, easy.*
#
# * `transformer` is a callable, `(B, T) -> (B, T, V + 1)`. Call it once. It sees `mask_token_id` where `mask` is True and
#   the real token elsewhere.
# * Return `logits` `(B, T, V)`, raw, without a softmax and with their gradient, and `targets` `(B, T)`, the real tokens,
#   long. `V` is `mask_token_id`.
# * Leave `z_indices` and `mask` unchanged: you may get them again.
#
# <details><summary>Hint 1: hiding without changing</summary>
#
# `z_indices[mask] = ...` would change the tokens that you have to give back as targets. Tensors have methods that fill or
# choose by a mask and give a *new* tensor; those whose names end in an underscore work in place.
#
# </details>
# <details><summary>Hint 2: dropping the last</summary>
#
# An index of `...` stands for all axes that you do not mention.
#
# </details>
# <details><summary>Hint 3: an outline</summary>
#
# Hide into a new tensor. Call the transformer with it. Return its logits without the last, and the tokens as they came.
#
# </details>

# %%
#| exercise: masked_forward
def masked_forward(transformer, z_indices, mask, mask_token_id):
    """Hide tokens and predict them.

    Args:
        transformer: a callable, (B, T) -> (B, T, V + 1).
        z_indices: (B, T) long, the real tokens.
        mask: (B, T) bool, True means hidden.
        mask_token_id: what the transformer sees where a token is hidden; equals V.

    Returns:
        logits (B, T, V) over the codes, and targets (B, T), the real tokens.
    """
    ### BEGIN SOLUTION
    logits = transformer(z_indices.masked_fill(mask, mask_token_id))
    return logits[..., :mask_token_id], z_indices
    ### END SOLUTION

# %%
lab.check("masked_forward")

# %% [markdown]
# With the trained transformer and 64 cats that it has not seen (fewer in the preset `smoke`):

# %%
from lab3.model.transformer import MASK_TOKEN_ID

smoke = lab.preset.name == "smoke"
transformer = lab.shipped()
pictures = lab.data.val[:16 if smoke else 64]
z_indices = lab.tokenizer.encode(pictures).to(lab.device)  # (B, 256)


@torch.no_grad()
def predict(ratio, seed=0):
    """Logits, targets and mask for the 64 pictures, this share of tokens hidden."""
    generator = torch.Generator(lab.device).manual_seed(seed)
    mask = sample_mask(len(z_indices), 256, ratio=ratio, generator=generator, device=lab.device)
    with lab3.autocast(lab.device):
        logits, targets = masked_forward(transformer, z_indices, mask, MASK_TOKEN_ID)
    return logits.float(), targets, mask


def share_right(logits, targets, where):
    """The share of tokens, at the places `where`, whose likeliest code is the right one."""
    return (logits.argmax(dim=-1) == targets)[where].float().mean().item()


logits, targets, mask = predict(0.5)
print("logits", tuple(logits.shape), "targets", tuple(targets.shape))
print(f"half of the tokens hidden: {share_right(logits, targets, mask):.0%} of them right")

# %% [markdown]
# **Predict.** At the other places the model *sees* the token that it is asked for. How many of those will it get right?

# %%
lab.predict("seen_tokens", ...)  # your guess: what share is right, in %
print(f"known tokens right: {share_right(logits, targets, ~mask):.0%}")
lab.observe("seen_tokens", 100 * share_right(logits, targets, ~mask))

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# Hardly any, although it sees them. It was trained with a loss on hidden tokens only, so its output at the other places
# was never trained and is of no use. This is why decoding carries known tokens along and never predicts them again.
#
# </details>
#
# ## The loss
#
# For one hidden token with logits $l_0, \dots, l_{V-1}$ and the real code $z$, the cross-entropy is
#
# $$-\log p_z = -\log \frac{e^{l_z}}{\sum_v e^{l_v}} = \log \sum_v e^{l_v} - l_z$$
#
# in *nats*, as the logarithm is the natural one. **The sum runs over the codes**, the last axis of `(B, T, V)`. The loss is
# the mean over hidden tokens.
#
# **Predict.** A model knows nothing and gives each code the same logit. What is its loss? And the loss of a model that gives
# the right code probability 1/2?

# %% tags=["nbval-check-output"]
print(f"equal logits: {torch.zeros(1024).logsumexp(dim=0):.3f} = ln 1024")
print(f"half sure:    {-math.log(0.5):.3f} = ln 2")
print("the mean over no hidden token at all:",
      F.cross_entropy(torch.zeros(0, 1024), torch.zeros(0, dtype=torch.long)))

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# ln 1024 = 6.93: remember this number, as every training begins there. $e^{\text{loss}}$, the *perplexity*, is how many codes the
# model is choosing between: 1024, or 2. The third line is 0 / 0, not a number. One row in a batch of `"bernoulli"` masks may hide
# nothing; when that happens to a whole batch, one NaN in the gradient would make every weight NaN.
#
# </details>
#
# **Label smoothing** asks for a little less than certainty: with $\varepsilon$ = `label_smoothing`, the real code has
# weight $1 - \varepsilon$ in the target, and all codes together share the weight $\varepsilon$ equally:
#
# $$\mathcal L_\varepsilon = (1 - \varepsilon) \, (-\log p_z) + \varepsilon \, \frac 1 V \sum_v (-\log p_v)$$
#
# ## First step: one token
#
# *About 5 minutes, easy, not graded.* The formula above, for a single hidden token. `logsumexp` stays finite where `exp` overflows.

# %%
def surprise(logits, target):
    """-log p of the code `target` under a softmax of logits (V,), in nats: a scalar tensor."""
    ### BEGIN SOLUTION
    return logits.logsumexp(dim=-1) - logits[target]
    ### END SOLUTION

# %% tags=["nbval-check-output"]
practice(surprise, ((torch.zeros(1024), 5), math.log(1024)),
         ((torch.tensor([0.2, 0.3, 0.5]).log(), 2), math.log(2)),
         ((torch.tensor([1000.0, 0.0]), 1), 1000.0))

# %% [markdown]
# ## Exercise: `mvtm_loss`
#
# *About 15 minutes, medium.*
#
# * Return the mean cross-entropy over the codes for the tokens where `mask` is True, all rows pooled; if `mask` is `None`,
#   for all tokens.
# * `label_smoothing` works as in `F.cross_entropy`, which you may use.
# * If no token is hidden, the loss is 0 **and has a gradient**: `loss.backward()` must work and leave zeros, never NaN.
# * The result is a scalar. Under autocast logits can be in bfloat16, which has three digits: the loss is more exact in float32.
#
# <details><summary>Hint 1: which axis?</summary>
#
# `F.cross_entropy` takes axis 1 as the classes, whatever you meant. For `(B, T, V)` that is the wrong one. With only two
# axes there is no choice: bring the logits to `(n, V)` and the targets to `(n,)`.
#
# </details>
# <details><summary>Hint 2: hidden tokens only</summary>
#
# Index a `(B, T, V)` tensor with a `(B, T)` bool tensor, and look at the shape of what you get.
#
# </details>
# <details><summary>Hint 3: nothing hidden</summary>
#
# A new tensor `torch.tensor(0.0)` is not connected to the logits, so `backward` has nowhere to go. Which operation on an
# *empty* piece of the logits gives 0 and is connected?
#
# </details>
# <details><summary>Hint 4: an outline</summary>
#
# Where there is a mask, take the logits and targets at its places. If none are left, return the sum of that empty piece.
# Otherwise bring the logits to `(n, V)` in float32 and the targets to `(n,)`, and let `F.cross_entropy` take the mean.
#
# </details>

# %%
#| exercise: mvtm_loss
def mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):
    """Mean cross-entropy over the codes, of hidden tokens.

    Args:
        logits: (B, T, V), float32 or bfloat16.
        targets: (B, T) long, each in 0 ... V - 1.
        mask: (B, T) bool, True where a token counts; None: all count.
        label_smoothing: as in `torch.nn.functional.cross_entropy`.

    Returns:
        A scalar with a gradient, in nats; 0 where no token counts.
    """
    ### BEGIN SOLUTION
    if mask is not None:
        logits, targets = logits[mask], targets[mask]  # (n, V), (n,)
    if targets.numel() == 0:
        return logits.float().sum()
    V = logits.shape[-1]
    return F.cross_entropy(logits.reshape(-1, V).float(), targets.reshape(-1),
                           label_smoothing=label_smoothing)
    ### END SOLUTION

# %%
lab.check("mvtm_loss")

# %% [markdown]
# **Predict.** With `label_smoothing=0.1`, what is the lowest loss that any model can reach: 0?

# %% tags=["nbval-check-output"]
real = torch.tensor([[5]])  # one token, code 5
for sure in (0.5, 0.8, 0.9, 0.99, 0.9999):
    p = torch.full((1, 1, 1024), (1 - sure) / 1023)
    p[..., 5] = sure
    loss, smoothed = mvtm_loss(p.log(), real), mvtm_loss(p.log(), real, label_smoothing=0.1)
    print(f"p = {sure:<6}  loss {loss:.3f}  smoothed {smoothed:.3f}")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# The smoothed loss has its minimum near $p = 0.9$, at about 1.02, and rises again beyond it: overconfidence costs, too.
# So losses with and without smoothing cannot be compared. [MaskGIT](https://arxiv.org/abs/2202.04200) trains with 0.1;
# this lab's training loop uses none.
#
# </details>
#
# ## How well can a hidden token be guessed?
#
# Now use your three functions together. **Predict.** Sketch the loss of the trained model as a function of the share
# that is hidden, from 5 % to 100 %: is it a straight line? Where does it end? (About 10 seconds on a CPU.)

# %%
ratios = [0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.94, 0.97, 0.98, 0.99, 1.0]
if smoke:
    ratios = [0.05, 0.5, 0.9, 1.0]
losses, accuracies = [], []
for ratio in ratios:
    logits, targets, mask = predict(ratio)
    losses.append(mvtm_loss(logits, targets, mask).item())
    accuracies.append(share_right(logits, targets, mask))
print(f"90 % hidden: {accuracies[ratios.index(0.9)]:.0%} of them right")
plots.loss_by_share(ratios, losses, accuracies,
                    "Little is lost until nearly all is hidden. Then there is a wall.")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# Nearly flat, and then a wall. With half of the tokens hidden the model does about as well as with a twentieth hidden; with
# nine of ten it still gets ⟦90 % hidden: (\S+) of⟧ right. Only where hardly any tokens are left does the loss shoot up.
# Each of these cats is six choices. A dozen tokens in the right places reveal most of them; photos of real cats would not
# be so kind.
#
# With *everything* hidden it is still better than guessing: place by place, it knows what cats are made of. The loss at 5 %
# is not for lack of tokens. It is what the model has not learned about cats whose pairs of body and fur are new to it.
#
# </details>
#
# **Predict.** In training, suppose that one ratio is drawn for a whole batch of 32, instead of one for each row. The ratios
# are uniform either way. What changes?

# %%
batches, size = 12, 32
generator = torch.Generator().manual_seed(1)


def hidden_shares(ratio=None):
    """What share of its tokens each row of a batch hides, (32,)."""
    return sample_mask(size, 256, ratio=ratio, generator=generator).float().mean(dim=1)


each = torch.stack([hidden_shares() for _ in range(batches)])
one = torch.stack([hidden_shares(torch.rand((), generator=generator).item())
                   for _ in range(batches)])
uniform = np.random.default_rng(0).random((10_000, size))
# what rows with such ratios would lose, read off the figure above
spread = np.interp(uniform, ratios, losses)
print(f"a ratio for each row: {len(each.unique()):>3} different shares,",
      f"the loss spreads by {spread.mean(axis=1).std():.2f}")
print(f"one for the batch:    {len(one.unique()):>3} different shares,",
      f"the loss spreads by {spread[:, 0].std():.2f}")
plots.shares_by_batch({"a ratio for each row": each, "one for the batch": one},
                      "Twelve batches of 32. Left every batch holds easy and hard rows, "
                      "right it is one or the other.")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# The mean stays the same. But with one ratio a batch is all easy or all hard, so its loss and its gradient jump about: by
# $\sqrt{32} \approx 5.7$ times as much, because the mean of 32 independent rows spreads that much less. On the left
# nearly every batch meets the wall of the figure above, beyond 90 %; on the right one in ten does. No error is raised:
# training is just noisier. It is a common slip, because `ratio = torch.rand(1)` is the shorter line.
#
# </details>
#
# ## What the loss means: bits a cat
#
# The loss of a row, averaged over rows, bounds how likely the model finds a whole picture. Three lines
# show it:
#
# 1. Reveal the tokens one by one in an order $s$. By the chain rule,
#    $-\log p(z \mid s) = \sum_{i=1}^{T} -\log p(z_{s(i)} \mid z_{s(1)}, \dots, z_{s(i-1)})$.
# 2. Draw $s$ at random. Then $p(z)$ is the mean of $p(z \mid s)$, and the logarithm of a mean is at least the mean of the
#    logarithms: $-\log p(z) \le \mathbb E_s [-\log p(z \mid s)]$.
# 3. With $n$ tokens hidden, each of them is equally likely to come next, so the next token costs on average the mean loss of
#    a row that hides $n$ random tokens. There is one such token for each $n = 1, \dots, T$.
#
# So $T$ times the mean loss of a row, with $n$ uniform on $1, \dots, T$, is an upper bound on $-\log p(z)$ in nats, and divided
# by $\ln 2$ it is in bits: **bits a cat = mean loss of a row $\times$ 256 / ln 2**. Your `sample_mask` without a ratio draws
# exactly this $n$.
#
# **Predict.** These cats are six choices each, about 19 bits for the 64 of this notebook. How many bits does the model need?
# And which is higher: the mean of the rows' losses, or the pooled mean that `mvtm_loss` gives?

# %%
from lab3.metrics.truth import true_bits
from lab3.model.likelihood import bits

means, pooled = [], []
for seed in range(2 if smoke else 4):
    logits, targets, mask = predict(None, seed)
    nats = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")  # (B, T)
    means.append((nats * mask).sum(dim=1) / mask.sum(dim=1))  # (B,)
    pooled.append(mvtm_loss(logits, targets, mask))
means, pooled = torch.cat(means), torch.stack(pooled).mean()
error = means.std() / math.sqrt(len(means))
a_cat = 256 / math.log(2)
print(f"mean of the rows' losses: {means.mean():.3f} nats, so {a_cat * means.mean():.0f} ± "
      f"{a_cat * error:.0f} bits a cat, or a perplexity of {means.mean().exp():.1f}")
print(f"pooled mean, mvtm_loss:   {pooled:.3f} nats")
print("the kit's estimate:       {:.0f} ± {:.0f} bits a cat".format(*bits(transformer, z_indices)))
print(f"the cats' entropy: {true_bits('val'):.1f} bits; "
      f"guessing: {256 * math.log2(1024):,.0f} bits")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# Well above the entropy, which no model can beat on average, and well below guessing. The kit's estimate, in
# `lab3/model/likelihood.py`, is the same with one mask for each cat. You will find it again in the training curve of
# notebook 03 and beside the distance in your report: the distance judges what is drawn, the bits judge the model alone.
#
# The pooled mean is higher: a row that hides 250 tokens counts 125 times as much as one that hides 2, and it is the harder
# one. Both are sound losses to train with. Only the mean of the rows' losses bounds the likelihood.
#
# </details>
#
# Pooling is one way to give more weight to rows that hide much; you can also draw their ratio from another distribution. A
# common choice is $r = \cos(\pi u / 2)$ with $u$ uniform, the cosine of notebook 04. **Predict.** For each, what share of
# the masks hides more than 90 % of the tokens?

# %% tags=["nbval-check-output"]
u = (torch.arange(100_000) + 0.5) / 100_000  # evenly spread over (0, 1)
for name, ratio in {"uniform": u, "cosine": torch.cos(math.pi / 2 * u)}.items():
    print(f"{name}: {(ratio > 0.9).double().mean():.0%} of the masks hide more than 90 %,",
          f"{ratio.mean():.0%} of the tokens are hidden on average")

# %% [markdown]
# Decoding a whole picture from nothing begins in this region: it is where the loss is highest and where the first tokens
# decide what the cat will be.
#
# ## What goes wrong: a softmax over places
#
# Here is a loss from a published solution of this lab. It makes the targets *one-hot*, 1 at the real code and 0 elsewhere,
# so that they have the shape of the logits, `(B, T, V)`, and hands both to `F.cross_entropy`. The shapes agree, the loss
# falls, and a model comes out.
#
# **Predict.** What does this loss give for a model whose logits are the same for all codes? (It should be ln 1024 =
# 6.93.)

# %% tags=["nbval-check-output"]
def loss_over_places(logits, targets, mask):
    one_hot = F.one_hot(targets, logits.shape[-1]).to(logits.dtype)  # (B, T, V)
    return F.cross_entropy(logits, one_hot)


flat, some = torch.zeros(2, 256, 1024), torch.arange(512).view(2, 256)
print(f"mvtm_loss {mvtm_loss(flat, some):.3f},",
      f"loss over places {loss_over_places(flat, some, None):.3f}")
shifted = flat + torch.arange(1024)  # code 1023 is now far likelier than any other, at each place
print(f"mvtm_loss {mvtm_loss(shifted, some):.1f},",
      f"loss over places {loss_over_places(shifted, some, None):.3f}")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# 1.386, not 6.931. `F.cross_entropy` takes axis 1 as the classes, and that is the 256 *places*. For each code it asks: at
# which places in the picture does it occur? Each of the 256 tokens of a picture costs ln 256, and the sum is divided by 1024
# codes: $\frac{256}{1024} \ln 256 = 1.386$.
#
# The second line is worse. Every place is now sure of code 1023, which is wrong everywhere. Your loss is in the hundreds;
# this one has not changed at all. It cannot see which code is likelier than another: add any number to all logits of a code,
# and the softmax over places takes it away again.
#
# </details>
#
# What does a model learn from it? Two small transformers (2 layers, width 64) start from the same weights and see the same
# batches and masks; only the loss differs. **Predict** which of them gets better at hidden tokens, and by how much. (10 to
# 30 seconds for each on a CPU.)

# %%
from lab3.presets import TransformerConfig
from lab3.common.progress import progress_bar
from lab3.model.transformer import BidirectionalTransformer

steps, cats = (24, 64) if smoke else (150, 256)
train_tokens = lab.tokenizer.encode(lab.data.train[:cats]).to(lab.device)
generator = torch.Generator().manual_seed(0)
val_mask = sample_mask(len(z_indices), 256, ratio=0.5, generator=generator).to(lab.device)
small = TransformerConfig(dim=64, layers=2, hidden=128, heads=4)


def learn(loss_function, name):
    """Train a small transformer for some steps.

    Returns the model, its per cent of right hidden tokens on the way, its losses.
    """
    torch.manual_seed(0)
    generator = torch.Generator(lab.device).manual_seed(0)
    model = BidirectionalTransformer(small, MultiHeadAttention).to(lab.device)
    weights = list(model.parameters())
    adam = torch.optim.Adam(weights, lr=6e-3)
    right, losses = [], []
    for step in progress_bar(range(steps + 1), desc=name):
        if step % (steps // 6) == 0:
            with torch.no_grad():
                logits, targets = masked_forward(model, z_indices, val_mask, MASK_TOKEN_ID)
            right.append(100 * share_right(logits, targets, val_mask))
        batch = train_tokens[torch.randint(cats, (8,), generator=generator, device=lab.device)]
        mask = sample_mask(8, 256, generator=generator, device=lab.device)
        logits, targets = masked_forward(model, batch, mask, MASK_TOKEN_ID)
        loss = loss_function(logits, targets, mask)
        losses.append(loss.item())
        for weight, slope in zip(weights, torch.autograd.grad(loss, weights)):
            weight.grad = slope
        adam.step()
    return model.eval(), right, losses


models, right = {}, {}
for name, loss_function in {"your loss": mvtm_loss, "over places": loss_over_places}.items():
    models[name], right[name], seen = learn(loss_function, name)
    print(f"{name}: the loss falls from {seen[0]:.2f} to {seen[-1]:.2f},",
          f"{right[name][-1]:.0f} % of hidden tokens right")
plots.lines({"hidden tokens right (%)": right}, "step",
            "The same model, the same batches, another axis.", x=range(0, steps + 1, steps // 6))

# %%
from lab3.data.masks import hidden_tokens

holes, originals = lab.data.holes[3:8], lab.data.test[3:8]
z_test = lab.tokenizer.encode(originals).to(lab.device)
hole_mask = hidden_tokens(holes).to(lab.device)


def filled_by(model):
    """The five pictures, their holes filled at once by a model."""
    with torch.no_grad():
        logits, targets = masked_forward(model, z_test, hole_mask, MASK_TOKEN_ID)
    decoded = lab.tokenizer.decode(torch.where(hole_mask, logits.argmax(dim=-1), targets))
    return torch.where(holes[:, None], decoded, originals)


filled = {name: filled_by(model) for name, model in models.items()}
plots.comparison({"masked": lab.data.masked[3:8]} | filled,
                 "Seconds of training make no artist. "
                 "But one of them has begun to find the colour of the fur.")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# The wrong loss does fall, and accuracy rises a little at first: even this loss can teach that background codes occur at the
# edge and eye codes in the middle. Then accuracy stalls, while with your loss it keeps rising. In the pictures the holes are
# full of codes that are common at such places but do not go together: any fur, any eye, several at once.
#
# Solutions with this bug did reach a score in the original course, after 100 epochs of a large model. It costs quality but
# never crashes. That makes it hard to find, and it is why the number of the first step is worth a look: a loss that starts
# at 1.39 instead of 6.93 is a loss of something else.
#
# </details>
#
# **Repair it.** Keep the one-hot targets, and take the softmax over the codes. One-hot targets do have a use: they need not
# be 0 and 1.

# %%
def one_hot_loss(logits, one_hot):
    """Mean over all tokens of the cross-entropy over codes; logits and one_hot (B, T, V)."""
    ### BEGIN SOLUTION
    log_p = logits.log_softmax(dim=-1)
    return -(one_hot * log_p).sum(dim=-1).mean()
    ### END SOLUTION

# %% tags=["nbval-check-output"]
generator = torch.Generator().manual_seed(0)
logits = torch.randn(2, 7, 10, generator=generator)
targets = torch.randint(10, (2, 7), generator=generator)
one_hot = F.one_hot(targets, 10).float()
found = one_hot_loss(logits, one_hot)
assert found.dim() == 0, f"expected one number, got a tensor of shape {tuple(found.shape)}"
assert torch.isclose(one_hot_loss(torch.zeros(2, 7, 10), one_hot), torch.tensor(10.0).log()), \
    "equal logits for 10 codes must give ln 10: is the mean taken over the B * T tokens?"
assert torch.isclose(one_hot_loss(logits + torch.randn(2, 7, 1), one_hot), found, atol=1e-5), \
    ("the same number added to all logits of a place must change nothing: "
     "the softmax does not run over the codes")
assert torch.isclose(found, mvtm_loss(logits, targets)), \
    f"expected {mvtm_loss(logits, targets):.4f}, as mvtm_loss has it, got {found:.4f}"
print("one-hot targets and token indices give the same loss")

# %% [markdown]
# The same one-hot targets again, over all tokens as in the published loss; only the axis is fixed.

# %%
def loss_over_codes(logits, targets, mask):
    return one_hot_loss(logits, F.one_hot(targets, 1024))


models["over codes"], right["over codes"], seen = learn(loss_over_codes, "over codes")
plots.lines({"hidden tokens right (%)": right}, "step", "It was the axis.",
            x=range(0, steps + 1, steps // 6))

# %% [markdown]
# In these first steps the fixed loss is even a little ahead of yours, although it counts known tokens as well. That says
# nothing about a whole training; which of the two wins there is a good question for notebook 03.
#
# ## What your functions have made
#
# Finally, the trained transformer again, and a cat of which your `sample_mask` leaves less and less.
# `masked_forward` predicts all hidden tokens, once.

# %%
shares = [0.3, 0.6, 0.9, 0.95, 0.98, 1.0]
cat = z_indices[2:3].expand(len(shares), -1)  # one picture, (6, 256)
generator = torch.Generator(lab.device).manual_seed(4)
mask = sample_mask(len(shares), 256, ratio=torch.tensor(shares, device=lab.device),
                   generator=generator, device=lab.device)
with torch.no_grad():
    logits, targets = masked_forward(transformer, cat, mask, MASK_TOKEN_ID)
predicted = lab.tokenizer.decode(torch.where(mask, logits.argmax(dim=-1), targets))
covered = mask.cpu().view(-1, 16, 16)
covered = covered.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)  # (6, 64, 64)
print("tokens left:", (~mask).sum(dim=1).tolist())
plots.comparison({"left": torch.where(covered[:, None], 128, pictures[2]), "predicted": predicted,
                  "original": pictures[2].expand(len(shares), -1, -1, -1)},
                 "30, 60, 90, 95, 98 and 100 % hidden. "
                 "Twelve tokens still make a cat; none make all cats at once.")

# %% [markdown]
# ## Explain
#
# Answer in two or three sentences each, in the cell below. No code. Your course may mark these.
#
# 1. A new model gives every code the same logit. What is `mvtm_loss` with `label_smoothing=0.1`, and why?
# 2. One row hides 10 tokens, with a mean loss of 3; another hides 190, with a mean loss of 1. What does `mvtm_loss` give for the
#    two, and what would the mean of the rows' means be? Which row decides the gradient?
# 3. Suppose the mask token's logit stays in. Can you see it in the loss of the first step? What may go wrong when pictures are drawn?

# %% [markdown]
# *Your answers:*
#
# 1. …
# 2. …
# 3. …

# %% [markdown]
# ## To think about
#
# * At decoding time the first step sees a hole of some 85 tokens, the last one only a few. Is $U(0, 1)$ the best
#   distribution for the training ratio? What would you try, and how would you find out?
# * The last picture, with everything hidden, is not a cat that anyone drew. Each token is the likeliest for its place. Why
#   is the likeliest picture not made of the likeliest tokens?
# * The masks in training are scattered; the holes are in one piece. What would you expect from training on holes? What could
#   get lost?
#
# ## Go further
#
# Two tasks beyond the lab, each with its own check. Neither is graded.
#
# **A hole in one piece** (*15 minutes, medium*). The masks of training are scattered. Write one that is not: a square of tokens,
# each position on the grid equally likely. To find out what it is good for, train with it in notebook 03.

# %%
def square_mask(side, generator, grid=16):
    """One square of side x side hidden tokens, anywhere on the grid: (grid * grid,) bool."""
    ### BEGIN SOLUTION
    top, left = torch.randint(grid - side + 1, (2,), generator=generator).tolist()
    mask = torch.zeros(grid, grid, dtype=torch.bool)
    mask[top:top + side, left:left + side] = True
    return mask.flatten()
    ### END SOLUTION

# %% tags=["nbval-check-output"]
corners = set()


def not_a_square(side):
    """A check for `practice`: what is wrong with a mask that should be one square."""
    def look(mask):
        if mask.shape != (256,) or mask.dtype != torch.bool:
            return f"expected 256 bools, got {tuple(mask.shape)} of {mask.dtype}"
        rows, columns = mask.view(16, 16).any(dim=1).sum(), mask.view(16, 16).any(dim=0).sum()
        if mask.sum() != side**2 or rows != side or columns != side:
            return f"{mask.sum()} hidden in {rows} rows and {columns} columns, for side {side}"
        corners.add((side, int(mask.float().argmax())))
        return ""
    return look


dice = torch.Generator().manual_seed(0)
practice(square_mask, *(((side, dice), not_a_square(side)) for side in (1, 16, *[6] * 900)))
print("corners of side 6 that occur:", sum(side == 6 for side, _ in corners), "of", 11 * 11)

# %% [markdown]
# **Does it know what it knows?** (*20 minutes, medium*). A model is *calibrated* if codes to which it gives probability 0.8 are
# right 80 % of the time. Sort predictions into bins by their probability, and compare each bin's mean probability with the
# share that is right.

# %%
def calibration(p, right, edges):
    """For each bin edges[i] <= p < edges[i + 1]: the mean of p, and the share that is right.

    p (n,) float and right (n,) bool; returns two tensors (len(edges) - 1,), NaN for empty bins.
    """
    ### BEGIN SOLUTION
    bins = [(p >= low) & (p < high) for low, high in zip(edges, edges[1:])]
    return (torch.stack([p[where].mean() for where in bins]),
            torch.stack([right[where].float().mean() for where in bins]))
    ### END SOLUTION

# %%
practice(calibration, ((torch.tensor([0.1, 0.3, 0.6, 0.8]), torch.tensor([False, True, True, True]),
                        [0, 0.5, 1.01]), (torch.tensor([0.2, 0.7]), torch.tensor([0.5, 1.0]))))
logits, targets, mask = predict(0.8)
p, likeliest = logits.softmax(dim=-1)[mask].cpu().max(dim=-1)
try:
    found = calibration(p, likeliest == targets[mask].cpu(), [0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.01])
    for mean, share in zip(*found):
        print(f"says {mean:4.0%}, is right {share:4.0%}")
except NotImplementedError:
    pass

# %% [markdown]
# Next: [03 Training](03_training.ipynb), where your own model learns from all this.
