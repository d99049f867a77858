# %% [markdown]
# # 03 The training loop
#
# * **You will be able to** write a learning rate that warms up and decays; train for an epoch in mixed precision; measure a loss without disturbing the model.
# * **Time**: about 70 minutes for you, without "Go further". The machine also trains a model, which you can leave alone; the first cell prints how long that takes here.
# * **Needs**: `sample_mask`, `masked_forward`, `mvtm_loss` of 02: without them the kit's trained model is used, and cells that train are left out. Your attention of 01, or PyTorch's.

# %%
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3

lab = lab3.start("03")

# %% [markdown]
# The last lines above say which of your answers were found, and how long the training will take on this machine.
#
# The next cell turns the pictures into tokens. The tokenizer never changes, so this is done once: the tokens of the
# cats come with the kit, those of other pictures from a cache after the first time. It also defines `ready`, which later cells ask whether 02's
# answers are there.

# %%
from lab3.model.tokens import training_tokens
from lab3.model.transformer import MASK_TOKEN_ID

tokens = training_tokens(lab.data, lab.tokenizer, lab.preset.training)
train_tokens, val_tokens = (part.long().to(lab.device) for part in tokens)
small = lab.preset.name == "smoke"


def ready():
    """Whether notebook 02's answers are here; says so in one line where they are not."""
    needed = ("sample_mask", "masked_forward", "mvtm_loss")
    waiting = [name for name in needed if name in lab.missing]
    if waiting:
        print(f"Left out: this cell needs {', '.join(waiting)} of notebook 02.")
    return not waiting


print(f"to train on: {tuple(train_tokens.shape)}, to validate on: {tuple(val_tokens.shape)} tokens")

# %% [markdown]
# ## The optimizer
#
# [AdamW](https://arxiv.org/abs/1711.05101) keeps two running means for each weight $w$ with gradient $g$ and divides one by
# the root of the other:
#
# $$m \leftarrow \beta_1 m + (1 - \beta_1)\, g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\, g^2, \qquad
# w \leftarrow w - \eta \left( \frac{\hat m}{\sqrt{\hat v} + \epsilon} + \lambda w \right)$$
#
# The fraction is near 1 for a steady gradient, large or small, so the learning rate $\eta$ says how far a weight moves in one step. The
# hats correct the start: $\hat m = m / (1 - \beta_1^s)$ and $\hat v = v / (1 - \beta_2^s)$ after $s$ steps, since both means begin at 0.
# **betas** $= (0.9, 0.95)$: $m$ remembers some 10 steps and $v$ some 20. PyTorch's own 0.999 would remember 1,000, more steps than your
# training has. **Weight decay** $\lambda$ (PyTorch's default, 0.01) pulls each weight towards 0 separately from the gradient: that is the
# W.
#
# ## The learning rate
#
# In the first steps $v$ is a mean of very few gradients, and the model's guesses are random: large steps would lead anywhere.
# So the learning rate climbs from 0 during a **warm-up**. Near the end, large steps would only jump around a good place, so
# it follows **half a cosine** down. At step $s = 0, 1, 2, \dots$, counted in batches, it is $\eta$ times a factor $f(s)$:
#
# $$f(s) = \begin{cases} s \,/\, \mathtt{warmup\_steps} & s < \mathtt{warmup\_steps} \\[2pt]
# \mathtt{eta\_min} + (1 - \mathtt{eta\_min}) \cdot \tfrac12 \left(1 + \cos \pi p\right) & \mathtt{warmup\_steps} \le s < \mathtt{total\_steps} \\[2pt]
# \mathtt{eta\_min} & s \ge \mathtt{total\_steps} \end{cases}$$
#
# $$p = \frac{s - \mathtt{warmup\_steps}}{\max(1,\ \mathtt{total\_steps} - \mathtt{warmup\_steps})}$$
#
# Here $p$ is how much of the way after the warm-up is done, from 0 to 1. `eta_min` is a factor like $f$ itself, not a
# learning rate.
#
# ## First step: half a cosine
#
# *About 2 minutes, easy, not graded.* The middle line of the formula, with `eta_min` = 0.

# %%
from lab3.notebook.practice import practice


def half_cosine(p):
    """1 at p = 0, 0 at p = 1, and half a cosine between them; p and the result are floats."""
    ### BEGIN SOLUTION
    return 0.5 * (1 + math.cos(math.pi * p))
    ### END SOLUTION

# %% tags=["nbval-check-output"]
practice(half_cosine, ((0.0,), 1.0), ((0.5,), 0.5), ((1.0,), 0.0), ((1 / 3,), 0.75))

# %% [markdown]
# ## Exercise: `configure_optimizers`
#
# *About 10 minutes, easy.*
#
# It gives an optimizer and a scheduler for it.
#
# * The optimizer: `torch.optim.AdamW` over all parameters of the model, with learning rate `lr` and betas `(0.9, 0.95)`.
# * The scheduler: `torch.optim.lr_scheduler.LambdaLR`, which will be stepped **once per batch**, with the factor $f(s)$ above.
# * `warmup_steps = 0` is allowed: the factor is then 1 at $s = 0$. From `total_steps` on it is exactly `eta_min`.
# * `total_steps < 1`, `warmup_steps < 0` and `warmup_steps > total_steps` raise a `ValueError` that names the
#   argument.
#
# <details><summary>Hint 1: what LambdaLR wants</summary>
#
# A function from the number of the step to a factor. LambdaLR calls it with $s = 0$ when it is created and with one more at
# each `scheduler.step()`, and multiplies `lr` by the result. `lr` itself does not belong in your function.
#
# </details>
# <details><summary>Hint 2: three cases</summary>
#
# Three `return`s, one for each line of the formula. The order of the cases decides what happens with `warmup_steps = 0`, and
# with `warmup_steps = total_steps`: try both by hand.
#
# </details>
# <details><summary>Hint 3: the cosine</summary>
#
# $\frac12 (1 + \cos \pi p)$ goes from 1 to 0. Check your function at $p = 0$, $1/2$ and $1$ before you run the cell: 1, halfway
# between 1 and `eta_min`, `eta_min`.
#
# </details>
# <details><summary>Hint 4: an outline</summary>
#
# Refuse the three bad settings. Make the AdamW. Define `factor(s)`: below the warm-up, `s / warmup_steps`; from
# `total_steps` on, `eta_min`; between, $p$ and then `half_cosine` stretched to end at `eta_min`. Return the optimizer and a
# LambdaLR with `factor`.
#
# </details>

# %%
#| exercise: configure_optimizers
def configure_optimizers(model, lr, total_steps, warmup_steps, eta_min=0.0):
    """AdamW and its learning rate: linear warm-up, then half a cosine, stepped once a batch.

    Args:
        model: an nn.Module.
        lr: the learning rate at its highest.
        total_steps: how many batches the training has.
        warmup_steps: how many of them the learning rate climbs; 0: it begins at lr.
        eta_min: what the learning rate comes down to, as a factor of lr.

    Returns:
        The AdamW optimizer, betas (0.9, 0.95), and its LambdaLR scheduler.

    Raises:
        ValueError: total_steps below 1, or warmup_steps outside 0 ... total_steps.
    """
    ### BEGIN SOLUTION
    if total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, not {total_steps}")
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(
            f"warmup_steps must lie in 0 ... total_steps ({total_steps}), not {warmup_steps}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95))

    def factor(s):
        if s < warmup_steps:
            return s / warmup_steps
        if s >= total_steps:
            return eta_min
        p = (s - warmup_steps) / max(1, total_steps - warmup_steps)
        return eta_min + (1 - eta_min) * 0.5 * (1 + math.cos(math.pi * p))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    ### END SOLUTION

# %%
lab.check("configure_optimizers")

# %% [markdown]
# **Predict.** A training of 6 batches, `warmup_steps = 2`, `eta_min = 0.1`. With which factor is the *first* batch trained? Which
# batch is the first to get the full learning rate?

# %% tags=["nbval-check-output"]
def factors(steps, **settings):
    """The factor that each of so many batches is trained with, from your scheduler."""
    # lr 1: the learning rate is the factor
    optimizer, scheduler = configure_optimizers(nn.Linear(1, 1), 1.0, **settings)
    found = []
    for _ in range(steps):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return found


print([round(factor, 3) for factor in factors(8, total_steps=6, warmup_steps=2, eta_min=0.1)])

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# 0, 0.5, 1: the first batch is trained with a learning rate of 0 and changes nothing, the third is the first to get the
# full rate. One batch of 1,500 costs nothing, but keep that 0 in mind: it matters at the end of this notebook. At the last
# batch the factor is 0.232, and it would be `eta_min` at the next.
#
# </details>
#
# Here is a whole training: 1,500 batches of eight pictures, the one epoch of the preset `cpu`. A tenth of it is warm-up.

# %%
from lab3.common import plots

lines = {}
for warmup_steps in (0, 150, 750):
    heights = factors(1700, total_steps=1500, warmup_steps=warmup_steps, eta_min=0.01)
    lines[f"warmup_steps = {warmup_steps}"] = (range(1700), heights)
plots.curves({"factor of the learning rate": lines}, "batch",
             "Warm-up, half a cosine down to 0.01, and level from batch 1,500 on.")

# %% [markdown]
# ## Mixed precision
#
# Nearly all of the time goes into matrix products, and many machines multiply faster in numbers with fewer digits. All three
# kinds below are made of a sign, an exponent and digits:
#
# | kind | bits | binary digits | range of the exponent |
# |---|---|---|---|
# | float32 | 32 | 24 | large |
# | bfloat16 | 16 | 8 | as large as that of float32 |
# | float16 | 16 | 11 | small |
#
# **Predict.** A weight of 1 is moved by −0.001 a hundred times. What comes out in each kind of number? And which of them can
# hold a gradient of $10^{-8}$?

# %% tags=["nbval-check-output"]
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    weight = torch.tensor(1.0, dtype=dtype)
    for _ in range(100):
        weight = weight - 0.001
    gradient, after_one = torch.tensor(1e-8).to(dtype), 1 + torch.finfo(dtype).eps
    print(f"{str(dtype):15s} next after 1: {after_one:<10.8g} weight: {weight:.4f} ",
          f"gradient: {gradient:.1e}  largest: {torch.finfo(dtype).max:.1e}")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# In bfloat16 the weight is still 1: the next number below 1 is 0.996, and each step is rounded away. A model whose *weights*
# were bfloat16 would stop learning when its steps get small. In float16 the weight does move, with an error, but the gradient
# is 0: $10^{-8}$ is below its smallest number, and its largest is 65,504.
#
# </details>
#
# So training mixes them. Weights, gradients and the optimizer stay in float32; within `torch.autocast` only the matrix
# products use copies in bfloat16. The kit's `lab3.autocast(device)` is this context on machines that multiply bfloat16
# faster, and does nothing on others (the first cell says which yours is). Your code is the same on every machine.

# %% tags=["nbval-check-output"]
layer = nn.Linear(4, 4)
with torch.autocast("cpu", dtype=torch.bfloat16):
    y = layer(torch.ones(2, 4))
y.float().sum().backward()  # after the context: backward uses the types that forward used
print("weight", layer.weight.dtype, "| product", y.dtype,
      "| gradient of the weight", layer.weight.grad.dtype)

# %% [markdown]
# **What is a GradScaler for?** For float16, which older GPUs have to use. Small gradients would become 0 in it, as you saw. So a
# `torch.amp.GradScaler` multiplies the loss, and with it all gradients, by a large number before `backward`, and divides the
# gradients by it again before the optimizer's step. It has three methods, used once a batch in this order:
#
# * `scale(loss)` gives the loss times the scale,
# * `step(optimizer)` divides the gradients and then lets the optimizer step, or skips the step if a gradient overflowed,
# * `update()` corrects the scale: halved after an overflow, doubled after 2,000 good steps.
#
# It *adapts* its scale as it goes, so a training has **one** scaler, passed to every epoch. bfloat16 has float32's range and
# needs none: here `scaler` is `None`, but your function takes one.
#
# ## One batch after another
#
# For each batch of tokens `z_indices`:
#
# | line | what | shape or kind |
# |---|---|---|
# | 1 | the tokens, on the device | `(B, T)` long |
# | 2 | a mask, from *your* `sample_mask` | `(B, T)` bool |
# | 3 | the gradients of the previous batch, cleared | |
# | 4 | *your* `masked_forward` and `mvtm_loss`, under autocast | `(B, T, V)`, `(B, T)`, then a scalar |
# | 5 | backward, through the scaler where there is one | a gradient for each weight |
# | 6 | a step of the optimizer | |
# | 7 | a step of the scheduler | the learning rate of the *next* batch |
#
# You call the answers of notebook 02 by their names: `lab3.start` has put them here.
#
# **Predict.** Why clear the gradients? What are these three?

# %% tags=["nbval-check-output"]
w = torch.tensor(2.0, requires_grad=True)
for _ in range(3):
    (3 * w).backward()
    print(w.grad.item())

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# 3, 6, 9, though the gradient of $3w$ is always 3: `backward` *adds* to what is there. Without clearing, each step would
# follow the sum over all batches so far. Gradients may also be left from before the epoch, so clear them before the first
# step, too.
#
# </details>
#
# ## First step: one step
#
# *About 5 minutes, easy, not graded.* Lines 3, 5 and 6 of the table, for any loss. The order decides whose gradient the optimizer
# follows.

# %%
def one_step(loss_of, optimizer):
    """One step of the optimizer down the scalar loss_of(); returns that loss, a float."""
    ### BEGIN SOLUTION
    optimizer.zero_grad()
    loss = loss_of()
    loss.backward()
    optimizer.step()
    return loss.item()
    ### END SOLUTION

# %% tags=["nbval-check-output"]
weight = nn.Parameter(torch.tensor(2.0))
weight.grad = torch.tensor(100.0)  # left from before
descent = torch.optim.SGD([weight], lr=0.1)


def moved_to(loss, place):
    """A check for `practice`: the loss returned, and where the weight should be after the step."""
    return lambda got: "" if abs(got - loss) + abs(weight.item() - place) < 1e-5 else (
        f"expected loss {loss} and then w = {place}, got {got} and w = {weight.item():.4f}")


practice(one_step, ((lambda: weight**2, descent), moved_to(4.0, 1.6)),
         ((lambda: 3 * weight, descent), moved_to(4.8, 1.3)))

# %% [markdown]
# ## Exercise: `train_one_epoch`
#
# *About 15 minutes, medium.*
#
# * The loader is any iterable that yields `(B, T)` tokens. The last batch may be smaller.
# * The transformer is put in train mode.
# * Masks come from `sample_mask` with its defaults: each row draws its own ratio. Pass it `generator` and `device`.
# * The forward pass runs under `lab3.autocast(device)`. The loss counts the hidden tokens, without label smoothing.
# * Each step uses the gradients of its own batch only, never any left in the model from before. No clipping.
# * One step of the optimizer, then one of the scheduler, for **each batch**. If `scaler` is not None, backward and step go
#   through it.
# * It returns the mean of the batch losses, a float. A loader without a batch raises a `ValueError` that names
#   `loader`.
#
# <details><summary>Hint 1: where to begin</summary>
#
# Each row of the table is a line or two of code. Write it for `scaler=None` first and run the check.
#
# </details>
# <details><summary>Hint 2: what belongs under autocast</summary>
#
# The forward pass and the loss. Backward comes after the `with` block: it uses the types of the forward pass
# automatically.
#
# </details>
# <details><summary>Hint 3: losses to average</summary>
#
# Collect each batch's loss without its graph (`detach`); otherwise the graphs of all batches stay in memory. `item()`
# gives a float at once, but on a GPU it waits for the batch to finish each time; a list of detached tensors, averaged at
# the end, does not.
#
# </details>
# <details><summary>Hint 4: an outline</summary>
#
# Train mode. For each batch: to the device; a mask; clear the gradients; under autocast `masked_forward` and `mvtm_loss`;
# then, without a scaler, backward and step, or with one, `scale(loss).backward()`, `step(optimizer)`, `update()`; the
# scheduler's step; keep the detached loss. After the loop, a ValueError if there was no batch, else the mean as a float.
#
# </details>

# %%
#| exercise: train_one_epoch
def train_one_epoch(transformer, loader, optimizer, scheduler, *, mask_token_id, device,
                    scaler=None, generator=None):
    """Train on every batch of the loader once.

    Args:
        transformer: maps (B, T) tokens to (B, T, V + 1) logits; it is trained.
        loader: yields (B, T) long tokens; the last batch may be smaller.
        optimizer, scheduler: what configure_optimizers gives; both step once a batch.
        mask_token_id: V.
        device: where the transformer is.
        scaler: a GradScaler, or None.
        generator: a torch.Generator on the device, for the masks.

    Returns:
        The mean of the batch losses, a float.

    Raises:
        ValueError: loader holds no batch.
    """
    ### BEGIN SOLUTION
    transformer.train()
    losses = []
    for z_indices in loader:
        z_indices = z_indices.to(device)
        mask = sample_mask(*z_indices.shape, generator=generator, device=device)
        optimizer.zero_grad(set_to_none=True)
        with lab3.autocast(device):
            logits, targets = masked_forward(transformer, z_indices, mask, mask_token_id)
            loss = mvtm_loss(logits, targets, mask)
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        scheduler.step()
        losses.append(loss.detach())
    optimizer.zero_grad(set_to_none=True)
    if not losses:
        raise ValueError("loader holds no batch")
    return torch.stack(losses).double().mean().item()
    ### END SOLUTION

# %%
lab.check("train_one_epoch")

# %% [markdown]
# ## Overfit one batch
#
# The first thing to do with a new training loop: make a tiny model overfit one batch. If it cannot even do that, no
# amount of data will help.
#
# **Predict** the very first loss. The model is new and knows nothing, and there are 1,024 codes.

# %%
from lab3.presets import TransformerConfig
from lab3.model.transformer import BidirectionalTransformer

lab.predict("first_loss", ...)  # your guess: a number, in nats

def tiny_model():
    """A transformer of two narrow layers, the same each time, with your attention."""
    torch.manual_seed(0)
    config = TransformerConfig(dim=64, layers=2, hidden=128, heads=4)
    return BidirectionalTransformer(config, lab.answers.MultiHeadAttention).to(lab.device)


if ready():
    steps, model = 15 if small else 100, tiny_model()
    optimizer, scheduler = configure_optimizers(model, 1e-2, total_steps=steps, warmup_steps=5)
    generator = torch.Generator(lab.device).manual_seed(0)
    losses = []
    for _ in range(steps):
        losses.append(train_one_epoch(
            model, [train_tokens[:16]], optimizer, scheduler,
            mask_token_id=MASK_TOKEN_ID, device=lab.device, generator=generator))
    print(f"first loss {losses[0]:.3f}, guessing among 1,024 codes",
          f"ln 1024 = {math.log(1024):.3f}, last loss {losses[-1]:.3f}")
    lab.observe("first_loss", losses[0])
    display(plots.curves(
        {"loss (nats)": {"16 pictures": (range(1, steps + 1), losses)}}, "times seen",
        "The same 16 pictures again and again, hidden differently each time."))

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# The first loss is that of guessing, $\ln 1024 = 6.93$, give or take: a new model gives all codes about the same probability.
# Where the first loss is far from it, look for the error before you train on. Here it came down to ⟦last loss (\d+\.\d)⟧. It
# does not reach 0: a row may be hidden entirely, and then nothing tells which of the 16 cats it is.
#
# </details>
#
# ## How good is it? Measuring without touching
#
# The loss on pictures that training never saw tells whether the model learns cats or learns *these* cats. Measuring must not
# change the model: dropout is off, no gradients are kept, and afterwards everything is as it was. That includes the **mode of
# each module**: someone may have put a single part into eval mode on purpose, and calling `transformer.train()` at the end
# would undo that.
#
# ## First step: note the modes, put them back
#
# *About 3 minutes, easy, not graded.*

# %%
def modes_of(model):
    """A list of pairs, (submodule, whether it is in train mode), of all submodules of a model."""
    ### BEGIN SOLUTION
    return [(module, module.training) for module in model.modules()]
    ### END SOLUTION


def put_back(modes):
    """Give each submodule its noted mode back; returns how many there are."""
    ### BEGIN SOLUTION
    for module, training in modes:
        module.training = training
    return len(modes)
    ### END SOLUTION

# %% tags=["nbval-check-output"]
model = nn.Sequential(nn.Linear(1, 1), nn.Dropout())
model[1].eval()  # on purpose
noted = [(model, True), (model[0], True), (model[1], False)]
practice(modes_of, ((model,), lambda modes: "" if list(modes) == noted else f"got {modes}"))
model.eval()
practice(put_back, ((noted,), lambda _: "" if all(one.training == mode for one, mode in noted)
                    else "the modes afterwards are not the noted ones"))

# %% [markdown]
# ## Exercise: `eval_one_epoch`
#
# *About 10 minutes, medium.*
#
# * The mean over the batches of the loss on hidden tokens; masks from `sample_mask` and the forward pass under autocast, as
#   in training.
# * It runs in eval mode, without gradients. Parameters, buffers and gradients stay as they are.
# * Afterwards each submodule has its own mode back, even if something in the middle raises an exception.
# * The same state of `generator` gives the same value.
# * A loader without a batch raises a `ValueError` that names `loader`.
#
# <details><summary>Hint 1: no gradients</summary>
#
# `with torch.no_grad():` around the loop. It ends with its block, whatever happens in it.
#
# </details>
# <details><summary>Hint 2: modes</summary>
#
# `transformer.modules()` goes through all submodules, the transformer among them. Each has an attribute `training`. Note them all
# down first.
#
# </details>
# <details><summary>Hint 3: also after an exception</summary>
#
# `try: ... finally: ...` runs the second part in any case. Setting a module's `training` affects this module only;
# `module.train()` would change everything inside it.
#
# </details>
# <details><summary>Hint 4: an outline</summary>
#
# Note the modes. In a `try`: eval mode, no gradients, and for each batch the mask, the forward pass under autocast and the
# loss, as in training. In the `finally`: put the modes back. Then the ValueError, or the mean as a float.
#
# </details>

# %%
#| exercise: eval_one_epoch
def eval_one_epoch(transformer, loader, *, mask_token_id, device, generator=None):
    """The mean loss over the batches of the loader; leaves the model as it was, its modes included.

    Args:
        transformer: maps (B, T) tokens to (B, T, V + 1) logits; it is not changed.
        loader: yields (B, T) long tokens.
        mask_token_id: V.
        device: where the transformer is.
        generator: a torch.Generator on the device, for the masks.

    Returns:
        The mean of the batch losses, a float.

    Raises:
        ValueError: loader holds no batch.
    """
    ### BEGIN SOLUTION
    modes = [(module, module.training) for module in transformer.modules()]
    losses = []
    try:
        transformer.eval()
        with torch.no_grad():
            for z_indices in loader:
                z_indices = z_indices.to(device)
                mask = sample_mask(*z_indices.shape, generator=generator, device=device)
                with lab3.autocast(device):
                    logits, targets = masked_forward(transformer, z_indices, mask, mask_token_id)
                    losses.append(mvtm_loss(logits, targets, mask))
    finally:
        for module, training in modes:
            module.training = training
    if not losses:
        raise ValueError("loader holds no batch")
    return torch.stack(losses).double().mean().item()
    ### END SOLUTION

# %%
lab.check("eval_one_epoch")

# %% [markdown]
# The kit has a model that was trained for much longer. **Predict.** Its validation loss is measured four times: twice with a
# new generator of seed 0, then once more with the second of these generators, which is used by now, then with seed 1. Which
# of the four are the same?

# %%
val_loader = val_tokens[:256].split(32)
shipped = lab.shipped()


def val_loss(transformer, generator):
    return eval_one_epoch(transformer, val_loader, mask_token_id=MASK_TOKEN_ID,
                          device=lab.device, generator=generator)


def seeded(seed):
    return torch.Generator(lab.device).manual_seed(seed)


if ready():
    used = seeded(0)
    generators = {"seed 0": seeded(0), "seed 0 again": used,
                  "that generator, used": used, "seed 1": seeded(1)}
    for label, generator in generators.items():
        print(f"{label:22s}{val_loss(shipped, generator):.6f}")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# The first two agree to the last digit; the others do not: a generator remembers what it has drawn, and other masks ask
# other questions. Which tokens happen to be hidden moves the loss by as much as epochs of training do. Two models are
# compared fairly on the *same* masks only, so the training below measures with the same seed each time.
#
# </details>
#
# ## Train
#
# Now all of it: your attention, masks, loss, optimizer and loops, 12,000 pictures, one epoch. The first cell of this notebook
# has printed how long that takes here. Meanwhile the curve below is drawn again after every 100 batches.
#
# * Stop it whenever you like (the square in the toolbar, or the keys `I`, `I`): run the cell again and it resumes where it
#   was. The same holds if the machine or the notebook is shut down. Train in one notebook at a time.
# * Once training is done, the cell takes a second: it finds the trained model. `lab.train(fresh=True)` trains from
#   scratch, for example after you have changed an answer, and keeps the earlier run under another name.
# * You hand in `work/maskgit.safetensors` with your notebooks (00 says how). Beside your model it holds the record of
#   its training: the curve, and the loss after 20 %, 50 % and 100 % of it. The grader computes the last loss again; a
#   file without a record, or with another model's record, gets no points. If yours has none, run the cell again: it
#   adds the record without training again.
# * The training's seed comes from the text of your answers, so no one else's training gives your model.

# %%
transformer = lab.train()

# %% [markdown]
# The loss starts at that of guessing and covers most of its way down in the first third of the epoch. (Without 02's
# answers there is no training, and `transformer` is the kit's.)
#
# How far has it come? The kit keeps copies of your model from 20 % and 50 % of the training. The kit's own model is shown
# beside them; the first line that the cell prints says how large it is and how long it was trained. Each of them fills the
# holes of the first test pictures **in one pass**: every hidden token gets its likeliest code, all at once. That is the
# crudest decoding there is, and notebook 05 replaces it.
#
# **Predict.** What does a model learn first: the colour of the fur, the outline of the cat, or its eyes?

# %%
from lab3.common.files import read_json
from lab3.common.paths import SHIPPED, SUMMARY
from lab3.data.masks import hidden_tokens
from lab3.exercises.fallbacks import all_at_once

kit = read_json(SHIPPED / SUMMARY)  # how the kit's model was made
print(f"kit's model: {len(shipped.layers)} layers, {kit['training']['epochs']} epochs")
trained = ready()
models = (lab.milestones() | {"100 %": transformer} if trained else {}) | {"kit's": shipped}
n, shown = 16 if small else 64, 6
mask = hidden_tokens(lab.data.holes[:n]).to(lab.device)  # (n, 256), True: hidden
known = lab.tokenizer.encode(lab.data.masked[:n]).to(lab.device)  # what a model may see
originals = lab.tokenizer.encode(lab.data.test[:n]).to(lab.device)

rows = {"masked": lab.data.masked[:shown]}
for label, model in models.items():
    filled, _ = all_at_once(model, known, mask, total_iter=1, mask_token_id=MASK_TOKEN_ID)
    right = (filled == originals)[mask].float().mean()
    loss = f"validation loss {val_loss(model, seeded(0)):.2f}, " if trained else ""
    print(f"{label:10s}{loss}{right:.0%} of the hidden tokens right")
    decoded = lab.tokenizer.decode(filled[:shown])
    rows[label] = torch.where(lab.data.holes[:shown, None], decoded, lab.data.masked[:shown])
plots.comparison(rows | {"original": lab.data.test[:shown]},
                 "Holes filled in one pass, known pixels put back. Longer training, fewer smudges.")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# The validation loss falls from row to row, and the share of tokens that are exactly right grows. In the picture the colours
# of fur and background fit first, and outlines run on through the hole. Small things with their own shape come last: eyes,
# and the folds of a scarf. Where nothing in the picture tells what was there, every model makes something up.
#
# </details>
#
# ## What goes wrong: epochs for steps
#
# Public solutions count the schedule in *epochs*: the scheduler is stepped once at the end of each epoch, and total and
# warm-up are numbers of epochs as well.
#
# ```python
# optimizer, scheduler = configure_optimizers(model, lr, total_steps=epochs, warmup_steps=1)
# for epoch in range(epochs):
#     ...                       # all batches of the epoch, without a step of the scheduler
#     scheduler.step()
# ```
#
# It looks tidy. **Predict** the learning rate of the first epoch, and what the loss does in it.
#
# To show the bug without breaking your `train_one_epoch`, the cell wraps its scheduler: the wrapper notes the learning rate
# of each batch, and passes on every step, or only the last one of an epoch.

# %%
class Stepped:
    """A scheduler that notes each batch's learning rate and hands on one step of `every`."""

    def __init__(self, scheduler, every):
        self.scheduler, self.every, self.rates = scheduler, every, []

    def step(self):
        self.rates.append(self.scheduler.get_last_lr()[0])
        if len(self.rates) % self.every == 0:
            self.scheduler.step()


epochs, batch_size, pictures, lr = 3, 16, 128 if small else 1024, 1e-2
steps_an_epoch = pictures // batch_size


def short_training(every, **settings):
    """Train a tiny model for three short epochs.

    Gives its learning rates, and its losses, each over four batches.
    """
    model, generator, losses = tiny_model(), seeded(0), []
    optimizer, scheduler = configure_optimizers(model, lr, **settings)
    scheduler = Stepped(scheduler, every)
    for _ in range(epochs):
        for part in train_tokens[:pictures].split(4 * batch_size):
            losses.append(train_one_epoch(
                model, part.split(batch_size), optimizer, scheduler,
                mask_token_id=MASK_TOKEN_ID, device=lab.device, generator=generator))
    return scheduler.rates, losses


if ready():
    trainings = {
        "counted in steps": short_training(
            1, total_steps=epochs * steps_an_epoch, warmup_steps=steps_an_epoch // 4),
        "counted in epochs": short_training(
            steps_an_epoch, total_steps=epochs, warmup_steps=1),
    }
    panels = {"learning rate": {}, "loss (nats)": {}}
    for label, (rates, losses) in trainings.items():
        after_first = losses[len(losses) // 3 - 1]
        print(f"{label:18s} loss at the start {losses[0]:.2f},",
              f"after the first epoch {after_first:.2f}, at the end {losses[-1]:.2f}")
        panels["learning rate"][label] = (range(len(rates)), rates)
        panels["loss (nats)"][label] = (range(2, 4 * len(losses), 4), losses)
    display(plots.curves(
        panels, "batch",
        "Counted in epochs, the learning rate of the whole first epoch is 0: nothing is learnt."))

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# The loss stays where it was for the whole first epoch (⟦counted in epochs +loss at the start (\d+\.\d+)⟧ at its start,
# ⟦counted in epochs .*after the first epoch (\d+\.\d+)⟧ after it): one third of this training is thrown away. Then the
# learning rate jumps to its full height at once, so the warm-up is missing, and it ends at half of that, so there is hardly
# a decay: the loss at the end is higher. A public report of the original lab trains this way, 100 epochs with 10 of
# warm-up. It is easy to miss: the loss of the first epoch is just a high number, and the next 99 look fine.
#
# </details>
#
# **Repair it.** Count in batches. How many does a training have, and how many of them are warm-up? The last batch of an
# epoch may be smaller, but it counts as a batch.

# %%
def steps_of(epochs, warmup_epochs, pictures, batch_size):
    """The settings for configure_optimizers, in batches: (total_steps, warmup_steps), both ints.

    `warmup_epochs` may be a part of an epoch, such as 0.25; round warmup_steps to a whole number.
    """
    ### BEGIN SOLUTION
    batches_an_epoch = math.ceil(pictures / batch_size)
    return epochs * batches_an_epoch, round(warmup_epochs * batches_an_epoch)
    ### END SOLUTION

# %% tags=["nbval-check-output"]
for settings, expected in {(2, 0.25, 12_000, 32): (750, 94), (3, 1, 100, 32): (12, 4)}.items():
    found = steps_of(*settings)
    assert found == expected, (
        f"epochs, warmup_epochs, pictures, batch_size {settings}: "
        f"expected {expected}, got {found}")
assert all(isinstance(count, int) for count in steps_of(2, 0.3, 100, 7)), "steps are whole numbers"
total_steps, warmup_steps = steps_of(3, 0.25, 1024, 16)
repaired = factors(total_steps, total_steps=total_steps, warmup_steps=warmup_steps)
assert repaired[1] > 0 and max(repaired[:64]) == 1, (
    "the learning rate has to reach its full height in the first epoch")
assert repaired[-1] < 0.01, "the learning rate has to be down again at the end"
print(f"{total_steps} steps, {warmup_steps} of them warm-up,",
      f"full learning rate at step {repaired.index(1)}")

# %% [markdown]
# **Its sibling: a new GradScaler in each epoch.** The same public solutions write `scaler = GradScaler()` inside
# `train_one_epoch`. The scale then starts over at 65,536 in every epoch, and each epoch loses steps again until no gradient
# overflows. Here is what a GradScaler does, without a GPU: ten epochs of 50 batches, and gradients of at most 4, in float16,
# whose largest number is 65,504.
#
# **Predict** how many steps are left out, with one scaler and with ten.

# %% tags=["nbval-check-output"]
def steps_left_out(new_each_epoch, epochs=10, batches=50, gradient=4.0):
    """How many steps a GradScaler leaves out because a scaled gradient overflows."""
    scale, left_out = 65536.0, 0
    for step in range(epochs * batches):
        if new_each_epoch and step % batches == 0:
            scale = 65536.0
        if torch.tensor(gradient * scale).half().isinf():
            scale, left_out = scale / 2, left_out + 1
    return left_out


print("one scaler for the training:", steps_left_out(new_each_epoch=False))
print("a new one each epoch:       ", steps_left_out(new_each_epoch=True))

# %%
last = kit["curve"][-1]
print(f"kit's model after {last['epoch']:.0f} epochs: training loss {last['epoch_loss']:.2f},",
      f"validation loss {last['val_loss']:.2f}")

# %% [markdown]
# Three of 500, or thirty: at 65,536, 32,768 and 16,384 the scaled gradient is too large; at 8,192 it fits. It could be worse:
# if an epoch has fewer batches than the scale needs to come down, such a training never makes a step. This is why `scaler` is
# an argument of your function.

# %% [markdown]
# ## Explain
#
# Answer in two or three sentences each, in the cell below. No code. Your course may mark these.
#
# 1. `total_steps=100`, `warmup_steps=10`, `eta_min=0.1`: what is the factor at steps 0, 5, 10, 55 and 100?
# 2. The gradients are never cleared. Along which gradient does the third step go? Why does AdamW hide part of this mistake?
# 3. Batches hold eight rows, the last one four. Is the mean of the batch losses the mean over all hidden tokens? Why does
#    it not matter when two models are compared?

# %% [markdown]
# *Your answers:*
#
# 1. …
# 2. …
# 3. …

# %% [markdown]
# ## To think about
#
# * Validation cats wear pairs of body and fur that no training cat wears. After ⟦kit's model after (\d+) epochs⟧ epochs the
#   kit's model has a training loss of ⟦training loss (\d+\.\d+)⟧ and a validation loss of ⟦validation loss (\d+\.\d+)$⟧. What would
#   you expect of the two curves if you trained ten times as long? When would you stop?
# * A batch of eight pictures is one step here. With batches of 64 there are an eighth as many steps. What would you do to the
#   learning rate, and what to `warmup_steps`?
# * The loss does not come near 0, however long you train. Which hidden tokens can no model predict?
#
# ## Go further
#
# Two tasks beyond the lab, each with its own check. Neither is graded.
#
# **A large batch on a small machine** (*15 minutes, medium*). A batch that does not fit into memory is cut into parts, and their
# gradients are added up before the optimizer steps. The result has to be the gradient of the *mean* over the whole batch, also
# where the last part is smaller.

# %%
def gradient_in_parts(weight, batch, loss_of, size):
    """The gradient of loss_of(weight, batch), a mean over rows, from parts of at most `size` rows.

    weight: a tensor that requires a gradient; batch (B, ...); returns a tensor of weight's shape.
    """
    ### BEGIN SOLUTION
    weight.grad = None
    for part in batch.split(size):
        (loss_of(weight, part) * len(part) / len(batch)).backward()
    return weight.grad
    ### END SOLUTION

# %% tags=["nbval-check-output"]
rows = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
slope = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)


def squares(weight, part):
    return (part @ weight).square().mean()


whole, = torch.autograd.grad(squares(slope, rows), slope)
practice(gradient_in_parts, *(((slope, rows, squares, size), whole) for size in (10, 5, 4, 1)))

# %% [markdown]
# **A moving average of the weights** (*10 minutes, easy*). A model is often sampled with an average of its weights over the last
# steps instead of the last weights ([Halton-MaskGIT's code](https://github.com/valeoai/Halton-MaskGIT) keeps one). After
# every step, each averaged weight becomes `decay` times itself plus `1 - decay` times the new weight. Put it into a loop of
# your own and compare the two validation losses.

# %%
@torch.no_grad()
def update_average(average, model, decay):
    """Move each parameter of `average` towards that of `model`, in place; returns `average`."""
    ### BEGIN SOLUTION
    for old, new in zip(average.parameters(), model.parameters()):
        old.lerp_(new, 1 - decay)
    return average
    ### END SOLUTION

# %% tags=["nbval-check-output"]
average, model = nn.Linear(2, 1), nn.Linear(2, 1)
for module, value in ((average, 1.0), (model, 3.0)):
    for parameter in module.parameters():
        nn.init.constant_(parameter, value)


def all_are(value):
    """A check for `practice`: every parameter should have this value."""
    return lambda module: "" if module is average and all(
        torch.allclose(one, torch.tensor(value)) for one in module.parameters()) else (
        f"expected all parameters {value}, got {[one.tolist() for one in module.parameters()]}")


practice(update_average, *(((average, model, decay), all_are(value))
                           for decay, value in ((0.9, 1.2), (0.5, 2.1), (0.0, 3.0))))

# %% [markdown]
# Next: [04 Gamma schedules](04_gamma_schedules.ipynb), which say how many tokens a step of decoding may keep.
