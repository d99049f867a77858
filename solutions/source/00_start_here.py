# %% [markdown]
# # 00 Start here
#
# * **You will be able to** explain how the lab works; turn a picture into tokens and back; say which tokens a hole hides; fill a first hole, and say what is wrong with the result.
# * **Time**: about 40 minutes for you. The machine needs less than a minute. Nothing that you write here is graded.
# * **Needs**: nothing.
#
# In this lab you build MaskGIT, a model that fills holes in pictures: here, pictures of cats. Run a cell with Shift-Enter,
# starting with the next one. Every notebook in the lab begins with a cell like it.

# %%
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3

lab = lab3.start("00")

# %% [markdown]
# The first line names the **preset** in use: one complete set of sizes and times. The other lines describe your
# machine:
#
# | line | what it says |
# |---|---|
# | `Python` | 3.11 or later is needed |
# | `PyTorch` | `cpu` or `cuda`, and the number format that is fast here; models run in `bfloat16` only where that pays |
# | the kit's tokenizer and transformer | two trained models come with the lab; nothing is downloaded |
# | answers go to | the folder of your answers and of your trained model, `work/` unless you set `LAB3_WORK` |
#
# A line that begins with `[FAIL]` says what to do. Later notebooks add a line for each of your earlier answers.
#
# | preset | for | transformer | how to choose it |
# |---|---|---|---|
# | `cpu` | a laptop; the default | 4 layers, width 192 | nothing to do |
# | `smoke` | a quick check that everything runs; its pictures are poor | 2 layers, width 64 | `lab3.start("00", "smoke")` |
# | `report` | the size of the original course, on a GPU | 15 layers, width 768 | `lab3.start("00", "report")` |
#
# ## From mud to cats
#
# Before any explanation, here is what you will have built. The upper rows start from nothing: a trained model and the
# decoding of notebook 05 draw each whole picture, in 1, 2, 4, 8, 16 and 64 steps. In one step every part is drawn without
# regard to the others, which gives mud. With more steps the parts agree. In the last row a hole is filled in eight steps:
# each keeps the model's most confident predictions, and what is still open is half grey.

# %%
from lab3.common import plots
from lab3.decoding.generate import first_pictures

plots.comparison(first_pictures(lab.tokenizer, lab.data),
                 "Above, cats from nothing, by the number of steps. "
                 "Below, a hole and its eight steps.")

# %% [markdown]
# These pictures come with the kit as tokens; the cell only decodes them. You draw your own in notebook
# 07.
#
# ## A hole, filled
#
# Here are five cats with holes. The trained model fills them in a single step.

# %%
from types import SimpleNamespace

from lab3.decoding.inpaint import fill
from lab3.exercises import fallbacks

transformer = lab.shipped()
at_once = SimpleNamespace(gamma_func=fallbacks.straight_line,
                          iterative_decode=fallbacks.all_at_once)


def fill_at_once(masked, holes):
    """Fill holes, all hidden tokens in one go: masked pictures and their holes -> pictures."""
    filled = fill(masked, holes, lab.tokenizer, transformer, at_once, lab.preset.decoding,
                  seed=0, progress=False)
    return filled.pasted


five = [138, 123, 44, 94, 36]
masked, holes, originals = lab.data.masked[five], lab.data.holes[five], lab.data.test[five]
plots.comparison({"masked": masked, "filled": fill_at_once(masked, holes), "original": originals},
                 "What the model saw, what it made of it, and what it never saw.")

# %% [markdown]
# The model was trained on 12,000 other cats and has never seen these. It draws *a* cat that fits what it sees. Here the rest of
# the cat decides nearly everything; where it does not, the model invents, and one step is not enough. You will write the code
# that does this, and then code that does it better.
#
# ## How a notebook works
#
# Notebooks 01 to 06 contain eleven **exercises**. Each is one cell that begins with a line like this:
#
# ```python
# #| exercise: multi_head_attention
# ```
#
# Keep that line and the names in the cell, replace `raise NotImplementedError`, and run the cell. It is **checked at once**:
#
# ```
# [FAIL] multi_head_attention: it gives what nn.MultiheadAttention gives with the same weights, in eval mode
#        expected  the output of nn.MultiheadAttention
#        got       one that differs by up to 1.5
#        likely    the scores are divided by the root of dim: the width of one head is dim / num_heads
# ```
#
# Fix it and run the cell again, as often as you like, until it says `[OK]`. `[TODO]` means not written yet. The cell after
# the exercise, `lab.check("multi_head_attention")`, is silent when the answer is right; when it is not, "Run All" stops
# there, and you can go on with the next cell by hand. `lab.status()` lists all your answers and says which comes next.
#
# * **Your answers are kept.** A cell that ran is saved as `work/multi_head_attention.py`, and the next notebooks find it
#   there. It runs on its own, so it may use what the first cell of its notebook imports, but nothing from other cells.
# * **Nothing blocks you.** Where an answer is missing or wrong, the notebook says so and uses a **fallback**: PyTorch's own
#   attention, a straight line for a schedule, a decoding in one pass, the trained model that comes with the lab. You can do
#   the notebooks in any order.
# * **Predict.** Where you read this word, guess before you run the next cell. What you should have seen is folded below
#   it. Where the cell begins with `lab.predict`, replace `...` with your guess: the cell saves it before it computes
#   anything, and shows it beside the result. Guesses stay in `work/predictions/` and never affect your marks.
# * **Hints** are folded, too. Open one at a time; the last is an outline of the answer. Each exercise says about how long it
#   takes and how hard it is.
# * **First steps and "Go further"** are practice: small functions before an exercise, larger ones at a notebook's end. A
#   cell below tries yours and prints `[OK]`, `[TODO]` or `[FAIL]`. They are neither saved nor graded, and you may skip them.
#
# **To start over**: *Kernel, Restart Kernel and Run All Cells*. That is safe at any time: answers are read from `work/`,
# and training resumes where it stopped. To do one exercise again, rewrite its cell and run it. To discard all answers and
# the model that you trained, delete the folder `work/`; it is in the file browser, one level above `notebooks/`.
#
# **To hand in**: `make check` runs all checks on `work/`, and `python -m lab3 handin OUT.zip` packs what you hand in.
# With `--predictions` it adds your guesses, for an anonymous page of the class's guesses. If your course asks for a
# **report**, `make report` writes it, with your code, curves and scores; your own words go into `work/report.md`, which
# the first run creates. Run these commands in a terminal, in the lab's folder (*File, New, Terminal*).
#
# **To get help**: read the `likely` line; open a hint; print the shapes on the line before the one that fails; `help(lab)`
# lists what `lab` can do. Every file in `lab3/` is short and begins with its purpose. When you ask someone, show your cell
# and the whole message.
#
# ## The cats
#
# David Revoy drew them (CC BY 4.0), in layers. A cat is one body, fur, pair of eyes, mouth and accessory, drawn over one
# another on a plain background.

# %%
from lab3.data.cats import BACKGROUNDS, LAYERS, choices, compose, layers

*parts, background = choices("test")[11].tolist()  # what the twelfth test cat is made of
picture = (BACKGROUNDS[background] / 255)[:, None, None].expand(3, 64, 64)
stages = [picture]
for layer, choice in zip(layers(), parts):
    # (3, 64, 64) and (1, 64, 64): how much the layer covers
    colour, cover = layer[choice, :3], layer[choice, 3:]
    picture = colour + (1 - cover) * picture
    stages.append(picture)

page = plots.figure(9.0, 1.9, "One cat, layer by layer.")
for axes, stage, title in zip(page.subplots(1, 6), stages, ("background", *LAYERS)):
    plots.show(axes, (stage * 255).round().to(torch.uint8), title)
page

# %% tags=["nbval-check-output"]
sizes = dict(zip(LAYERS, (len(layer) for layer in layers())))
print("choices a layer:", sizes)
print("different cats: ", f"{math.prod(sizes.values()):,}", "x", len(BACKGROUNDS), "backgrounds")
pairs = {}
for split in ("train", "val", "test"):
    pairs[split] = {(body, fur) for body, fur, *_ in choices(split).tolist()}
    shape = tuple(getattr(lab.data, split).shape)
    print(f"{split:<5} {shape}, {len(pairs[split])} pairs of body and fur")
print("pairs that training and test share:", len(pairs["train"] & pairs["test"]))

# %% [markdown]
# Training never shows any of the test cats' pairs of body and fur. It shows each body and each fur, but not
# together. So memorising the training cats does not help: the model must combine parts that it has only seen apart.

# %%
train, test = choices("train"), choices("test")[:3]
# the first such training cat
same_body = torch.stack([(train[:, 0] == cat[0]).nonzero()[0, 0] for cat in test])
same_fur = torch.stack([(train[:, 1] == cat[1]).nonzero()[0, 0] for cat in test])
plots.comparison({"test cat": compose(test), "same body,\nin training": compose(train[same_body]),
                  "same fur,\nin training": compose(train[same_fur])},
                 "Every test cat wears a body and a fur that training showed, "
                 "but never on the same cat.")

# %% [markdown]
# ## From a picture to tokens, and back
#
# The model that you build never sees a pixel. A **tokenizer** (a [VQGAN](https://arxiv.org/abs/2012.09841), given) turns a
# picture into a grid of **tokens** and a grid of tokens into a picture. It has a **codebook** $e_0, \dots, e_{1023}$ of 1024
# vectors. Its encoder makes a grid of 16 x 16 vectors from the picture, and each is replaced by the number of the nearest
# code:
#
# $$z_t = \arg\min_v \lVert \mathrm{encoder}(x)_t - e_v \rVert^2, \qquad \hat x = \mathrm{decoder}(e_{z_1}, \dots, e_{z_{256}})$$
#
# | what | shape |
# |---|---|
# | pictures $x$ | `(N, 3, 64, 64)`, uint8 |
# | the encoder's vectors | `(N, 256, 256)`: 256 places, vectors of width 256 |
# | tokens $z$, called `z_indices` | `(N, 256)`, long, each in 0 ... 1023, row by row from the top left |
# | redrawn pictures $\hat x$ | `(N, 3, 64, 64)`, uint8 |
#
# **Predict.** A picture takes 64 x 64 x 3 bytes. How many bits do its tokens take, and how many times fewer is that?

# %% tags=["nbval-check-output"]
few = 64
pictures = lab.data.test[:few]
z_indices = lab.tokenizer.encode(pictures)
redrawn = lab.tokenizer.decode(z_indices)
print("pictures ", tuple(pictures.shape), pictures.dtype)
print("z_indices", tuple(z_indices.shape), z_indices.dtype)
print("redrawn  ", tuple(redrawn.shape), redrawn.dtype)
print("codebook ", tuple(lab.tokenizer.codebook.shape))
bits, token_bits = 64 * 64 * 3 * 8, 256 * math.log2(1024)
print(f"bits of a picture: {bits:,}; of its tokens: {token_bits:,.0f},",
      f"{bits / token_bits:.1f} times fewer")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# A token is one of 1024, so it takes 10 bits, and 256 of them take 2,560 bits: 38.4 times fewer than the 98,304 bits of
# the pixels.
#
# </details>
#
# The tokenizer was trained once, to redraw pictures. Its loss compares pixels and a network's features, as
# in [LPIPS](https://arxiv.org/abs/1801.03924), and works against a network that tells drawn pictures from
# real ones.
#
# Something is lost on the way. The peak signal-to-noise ratio (PSNR) says how much, in decibels:
# $10 \log_{10}(255^2 / \text{mean squared error})$. Higher is better; 30 dB is an error of about 8 of 255 levels, 40 dB one
# of about 2.5.

# %%
from lab3.metrics.distance import psnr

print(f"PSNR of {few} redrawn test pictures: {psnr(redrawn, pictures):.1f} dB")
plots.comparison({"original": pictures[6:10], "redrawn": redrawn[6:10]},
                 "Colours and shapes come back. Fine lines lose a little: "
                 "look at the cable of the headphones.")

# %% [markdown]
# Every prediction passes through this decoder, so expect hardly anything closer than this: keep the number in mind.
#
# Here is one of these pictures as the transformer sees it. A token covers 4 x 4 pixels.

# %%
plots.token_grid(pictures[11], z_indices[11],
                 "Left what you see, right what the transformer sees: numbers. "
                 "Their colour is only there for you.")

# %% [markdown]
# Codes with neighbouring numbers need not have similar colours: code 500 is not "between" 499 and 501. Codes are names,
# like words. Look at the plain background: it is not one token over and over, since the encoder sees more than 4 x 4
# pixels.
#
# **Predict.** One token, on the cat's forehead, is replaced: once by the token of its mouth, once by one of the background.
# How many of the 4,096 pixels of the redrawn picture will change, and by how much?

# %%
forehead = 6 * 16 + 7  # row 6, column 7
before, swapped = redrawn[11], {}
for name, place in {"mouth": 11 * 16 + 11, "background": 0}.items():
    other = z_indices[11:12].clone()
    other[0, forehead] = z_indices[11, place]
    swapped[name] = lab.tokenizer.decode(other)[0]
    changed = (before.int() - swapped[name].int()).abs().amax(dim=0)  # (64, 64), in levels of 255
    print(f"token of the {name:<10}  pixels that change by more than 0, 5, 20 levels:",
          *(int((changed > level).sum()) for level in (0, 5, 20)))
plots.change(before, swapped["mouth"], forehead,
             "The mouth's token on the forehead: a patch changes, its neighbours follow, "
             "and a trace goes far.")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# Not just 16. The 16 pixels that the token covers change most, but ⟦token of the mouth .*levels: \d+ (\d+) ⟧ change by more
# than 5 levels: the decoder is made of convolutions, which look at neighbours, so a token affects a whole neighbourhood. Far
# away, many pixels change by a level or two: the decoder's normalisation (GroupNorm) uses the mean and the variance of the
# whole picture.
#
# The background's token does not paint a green square on the forehead. Among blue neighbours it changes little. What a code
# draws depends on what is around it.
#
# </details>
#
# ## The codebook
#
# What does a code stand for? Collect the places where it occurs, and look at the 4 x 4 pixels there. On the left is their
# average for each of the 1024 codes; on the right are pieces of different cats whose middle has the same code.

# %%
more = lab.data.train[:64 if lab.preset.name == "smoke" else 256]
z_more = lab.tokenizer.encode(more)  # (N, 256)
padded = F.pad(more.float(), (4, 4, 4, 4), mode="reflect")
windows = padded.unfold(2, 12, 4).unfold(3, 12, 4)  # (N, 3, 16, 16, 12, 12)
# (N * 256, 3, 4, 4): what each token covers
patches = windows[..., 4:8, 4:8].permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
means = torch.stack([patches[z_more.flatten() == code].mean(dim=0) for code in range(1024)])
means = means.nan_to_num(128)

# in how many pictures
occurs = torch.stack([(z_more == code).any(dim=1).sum() for code in range(1024)])
common = (occurs >= 5).nonzero()[:, 0]
contrast = means[common].mean(dim=1).std(dim=(1, 2))
examples = {}
# five codes of more or less contrast
for code in common[contrast.argsort(descending=True)][:250:50].tolist():
    places = dict((z_more == code).nonzero().tolist())  # picture -> place, one a picture
    pieces = [windows[n, :, p // 16, p % 16] for n, p in list(places.items())[:5]]
    examples[code] = torch.stack(pieces).to(torch.uint8)
plots.codes(means[means.mean(dim=(1, 2, 3)).argsort()].to(torch.uint8), examples,
            "A code is a small piece of cat, the rim of an eye for example. "
            "Its colours may come from its neighbours.")

# %%
counts = torch.bincount(z_more.flatten(), minlength=1024).sort(descending=True).values
print(f"codes that {len(more)} pictures use: {int((counts > 0).sum())} of 1024")
in_one = [len(row.unique()) for row in z_more]
print(f"codes that one picture uses, on average: {np.mean(in_one):.0f}")
print(f"tokens that the 100 most common codes make up: {counts[:100].sum() / counts.sum():.0%}")

# %% [markdown]
# ## Holes
#
# A hole is a random walk over the pixels: a walker starts anywhere and takes 3,300 steps; where it has been, the picture is
# grey. Every test picture has one. In this lab **a mask is a bool tensor in which True means hidden**, always.
#
# The transformer sees tokens, so the hole in the pixels has to become a mask of tokens. A token counts as known only if all
# of its 4 x 4 pixels are known.
#
# **Predict.** Holes cover 21 % of the pixels on average. What share of the tokens do they hide: less than that, the same,
# more?

# %% tags=["nbval-check-output"]
from lab3.data.masks import hidden_tokens

lab.predict("hidden_tokens", ...)  # your guess in place of ...: a number, in %
corner = torch.zeros(1, 8, 8, dtype=torch.bool)
corner[0, 3:5, 3:5] = True  # four hidden pixels, in the middle of 8 x 8 pixels: 2 x 2 tokens
print("2 x 2 tokens, 4 of 64 pixels hidden: hidden tokens",
      hidden_tokens(corner, grid=2)[0].tolist())

mask = hidden_tokens(lab.data.holes)  # (747, 256)
hidden = mask.sum(dim=1)
print("holes", tuple(lab.data.holes.shape), lab.data.holes.dtype,
      "-> mask", tuple(mask.shape), mask.dtype)
print(f"hidden pixels: {lab.data.holes.float().mean():.1%};",
      f"hidden tokens: {mask.float().mean():.1%}")
print(f"hidden tokens of 256: {hidden.min()} to {hidden.max()},",
      f"{hidden.float().mean():.1f} on average")
lab.observe("hidden_tokens", 100 * mask.float().mean().item())

# %%
plots.hole_shares(lab.data.holes, mask,
                  "Ragged edges cost tokens: one hidden pixel hides all sixteen.")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# More: a third of the tokens for a fifth of the pixels. One hidden pixel hides its whole token, and the edge of a random
# walk is ragged. Of two holes of the same size, one can cost 20 tokens more than the other.
#
# </details>
#
# **Predict.** The tokenizer sees the picture *with* its hole. Take only tokens that count as known: all of their pixels
# are there. Are they the same as the original picture's tokens at these places?

# %%
lab.predict("known_tokens", ...)  # your guess: what share is the same, in %
seen = lab.tokenizer.encode(lab.data.masked[:few])  # tokens of the pictures with holes, (64, 256)
known = ~mask[:few]
grown = mask[:few].view(-1, 1, 16, 16).float()
same = (seen == z_indices).float()
print(f"all known tokens: {same[known].mean():.0%} are the original's")
for steps in (1, 2):
    # the mask, one token wider on all sides
    before, grown = grown, F.max_pool2d(grown, 3, stride=1, padding=1)
    ring = (grown > before).flatten(1)
    print(f"known tokens {steps} step{'s' * (steps > 1)} from the hole: {same[ring].mean():.0%}")
print(f"known tokens farther away: {same[(grown == 0).flatten(1)].mean():.0%}")
lab.observe("known_tokens", 100 * same[known].mean().item())

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# About four of five are the same; next to the hole more than a third are not. The encoder looks beyond a token's own pixels,
# so the grey of the hole reaches into its neighbours. Through GroupNorm it reaches, weakly, everywhere. The transformer
# completes these tokens as they are. In the end the known *pixels* are put back, or **pasted**, so they are exact whatever
# the tokens were.
#
# </details>
#
# ## Filled at once, and what is wrong with it
#
# You have all the parts of `fill_at_once` now. From a masked picture to a filled one:
#
# | step | shape |
# |---|---|
# | encode the masked picture | `(N, 3, 64, 64)` -> `(N, 256)` |
# | put a special number, the mask token 1024, wherever the mask is True | `(N, 256)`, in 0 ... 1024 |
# | the transformer gives a score for each code at each place | `(N, 256)` -> `(N, 256, 1025)` |
# | take the code with the highest score at hidden places, keep the token at the others | `(N, 256)` |
# | decode, and paste the known pixels over it | `(N, 256)` -> `(N, 3, 64, 64)` |
#
# This works well for most pictures. These four were chosen because it does not.
#
# **Predict.** Look only at the middle row. What have these mistakes in common?

# %%
hard = torch.tensor([48, 738, 660, 552])
masked, holes, originals = lab.data.masked[hard], lab.data.holes[hard], lab.data.test[hard]
plots.comparison({"masked": masked, "filled\nat once": fill_at_once(masked, holes),
                  "original": originals},
                 "Each token is a good guess by itself. Together they are no eye, no bow, no hat.")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# Fragments: black specks of several kinds of eyes in one eye, scraps of a bow or a hat with bare fur between them. What is
# known does not settle what is hidden there. Each token takes the code that is likeliest *for itself*, without knowing what
# the others take: one goes for a round eye, its neighbour for a slanted one.
#
# </details>
#
# [MaskGIT](https://arxiv.org/abs/2202.04200) fixes this. It predicts all hidden tokens but **keeps only its most confident
# predictions**, hides the rest again and predicts once more. Now the undecided tokens see what the others have become, and
# agree with them. The *schedule* says how many to keep in each round. You will measure how much this gains, and what it
# costs.
#
# ## Three ways to fill a grid
#
# A hole is a small case. Take the whole picture: how do you make a cat from nothing? Methods fall into three
# families.
#
# * **Autoregressive**: one token after another, row by row, each drawn in view of those before it. This is how text models
#   write, and how [VQGAN](https://arxiv.org/abs/2012.09841) drew pictures from tokens. 256 tokens take 256 passes.
# * **Diffusion**: begin with noise everywhere, and remove a little of it everywhere in each pass
#   ([Ho et al., 2020](https://arxiv.org/abs/2006.11239)).
# * **Masked**: begin with everything hidden, and in each pass reveal some tokens anywhere
#   ([MaskGIT](https://arxiv.org/abs/2202.04200)). Few at first, many later.
#
# The next cell runs all three. The first row and the last are *the same model*, the kit's. It has learned to predict from
# any set of known tokens, so it can follow any order, row by row included. (A real autoregressive model learns only that
# order.) The middle row is a toy, on pixels: for 1,000 training cats the perfect denoiser has a formula, a weighted mean of
# these cats, and needs no training. It has memorised them and can draw no other cat; a trained model would draw new ones.
#
# **Predict.** What do the three look like halfway through? Which parts of a cat does each settle first?

# %%
import time

from lab3.decoding.cached import for_decoding
from lab3.decoding.generate import halton_rank
from lab3.model.transformer import MASK_TOKEN_ID

small = lab.preset.name == "smoke"


def nine(stages):
    """Nine of a list of tensors as one, from the first to the last."""
    return torch.stack([stages[n] for n in np.linspace(0, len(stages) - 1, 9).astype(int)])


@torch.no_grad()
def reveal(order, sizes):
    """Reveal a hidden grid in a given order, sizes[n] tokens in pass n.

    Returns the pictures of nine passes, (9, 3, 64, 64), grey where tokens are still hidden.
    """
    model, done, stages, hidden = for_decoding(transformer, exact=False), 0, [], []
    z = torch.full((1, 256), MASK_TOKEN_ID, device=lab.device)
    for size in sizes:
        logits = model(z)[0, :, :MASK_TOKEN_ID].float()  # (256, 1024), for every place at once
        drawn = torch.distributions.Categorical(logits=logits).sample()
        now = order[done:done + size]  # all others stay as they are
        z[0, now], done = drawn[now], done + size
        hidden.append((z == MASK_TOKEN_ID).view(1, 16, 16))
        stages.append(torch.where(z == MASK_TOKEN_ID, drawn, z)[0])
    covered = nine(hidden).repeat_interleave(4, 2).repeat_interleave(4, 3).cpu()
    return torch.where(covered, 128, lab.tokenizer.decode(nine(stages)))


def denoise(cats, passes):
    """Draw by diffusion with the exact denoiser of cats (N, 3, 64, 64): nine of its pictures."""
    known = cats.flatten(1) / 127.5 - 1  # (N, 12288)
    half_norms = known.square().sum(dim=1) / 2
    noise = torch.logspace(1.3, -1.5, passes + 1)  # its standard deviation, before each pass
    x, stages = noise[0] * torch.randn(known.shape[1]), []
    for before, after in zip(noise, noise[1:]):
        # how likely each cat is, given x: exp(-|x - cat|^2 / (2 before^2)), normalised
        likely = ((known @ x - half_norms) / before**2).softmax(dim=0)
        mean = likely @ known
        x = mean + after / before * (x - mean)
        stages.append(x / (1 + after**2).sqrt())
    return ((nine(stages).view(-1, 3, 64, 64) + 1) * 127.5).clamp(0, 255).to(torch.uint8)


row_by_row, spread = torch.arange(256), halton_rank().argsort().long()
few_then_many = [1, 4, 6, 8, 11, 13, 15, 17, 19, 20, 22, 23, 23, 24, 25, 25]
one_by_one = [8] * 32 if small else [1] * 256
ways = {
    ("autoregressive", len(one_by_one)): lambda: reveal(row_by_row, one_by_one),
    ("diffusion", 32): lambda: denoise(lab.data.train[:1000], 32),
    ("masked", len(few_then_many)): lambda: reveal(spread, few_then_many),
}
films = {}
for (name, passes), way in ways.items():
    torch.manual_seed(0)
    began = time.perf_counter()
    films[f"{name}\n{passes} passes"] = way()
    print(f"{name:15s} {passes:3d} passes, {time.perf_counter() - began:4.1f} s")
plots.comparison(films, "One grid, three ways, from the first pass to the last. "
                        "Grey: not revealed yet.")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# Row by row, the top is finished while the rest is still open: ears come before a face. Diffusion works on the whole cat
# from the first pass on. Under the noise many cats are still possible, then fewer, until one is left. In the masked row
# a few scattered tokens settle the colours, and all later ones have to fit them.
#
# </details>
#
# Why the third? It trains like a text model, by predicting codes, and it works on the whole picture at once, as diffusion
# does. It takes few passes. And a hole is just another mask: a model that has learned every order can fill any hole, using
# what is known on *all* sides of it. A row-by-row model cannot look at what lies below. The price is that tokens revealed in
# the same pass do not see one another. You have just seen what that does, and most of this lab is about it.
#
# ## What goes wrong: a mask read the wrong way round
#
# The original lab keeps its holes as grey pictures, 0 in the hole and 255 where the picture is known. In this kit, and in
# the exercises, True means *hidden*. Half of the world's code uses one convention and half the other, and shapes do not tell
# them apart. Here is one of these files, read carelessly.
#
# **Predict.** The model is told that the hole is known and that everything else is hidden. What will it draw, and
# where?

# %%
# as the files have it, (3, 64, 64)
mask64 = torch.where(lab.data.holes[:3], 0, 255).to(torch.uint8)

hole = mask64 > 0  # fix this line when you know how, and run the cell again

shares = hole.float().mean(), hidden_tokens(hole).float().mean()
print("the mask says: {:.0%} of the pixels and {:.0%} of the tokens are hidden".format(*shares))
plots.comparison({"masked": lab.data.masked[:3], "filled": fill_at_once(lab.data.masked[:3], hole)},
                 "What the model draws where the mask tells it to.")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# The holes are still there, grey, as they count as known. The visible part of the cat has been painted over by a model that
# saw nothing but grey: it made grey cats. No error was raised. A number gives it away: holes cover 9 to 29 % of a picture,
# and here it is 80 %.
#
# </details>
#
# **Repair it.** Which of these five readings are right? Which look right and are not? Decide before you run the cell.

# %% tags=["nbval-check-output"]
readings = {
    "mask64 > 0": mask64 > 0,
    "mask64 == 0": mask64 == 0,
    "mask64 < 128": mask64 < 128,
    "~mask64": ~mask64,
    "(1 - mask64).bool()": (1 - mask64).bool(),
}
for text, reading in readings.items():
    print(f"{text:<20} {str(reading.dtype):<12} not zero: {(reading != 0).float().mean():6.1%}")

# %% [markdown]
# <details><summary>The answer</summary>
#
# * `mask64 == 0` and `mask64 < 128` are right. The second also holds for files that were saved with loss, where a hole is
#   not exactly 0.
# * `mask64 > 0` is the bug above.
# * `~mask64` has the right numbers and the wrong type: on uint8, `~` flips every bit, so 255 becomes 0, and 0 becomes 255.
#   On a *bool* tensor it would mean "not". `masked_fill` refuses a uint8 mask, `torch.where` takes it with a warning, and
#   numpy reads it as a list of row numbers.
# * `(1 - mask64).bool()` is all True: uint8 wraps around below 0, so 1 - 255 is 2.
#
# One habit finds all of these: each time you read a mask, print its type and the share that is True.
#
# </details>
#
# Now fix the line in the cell above and run it again.
#
# ## The plan
#
# | notebook | you write | it gives you |
# |---|---|---|
# | [01 Multi-head attention](01_multi_head_attention.ipynb) | the attention | a transformer with your attention in it; maps of what a hidden token looks at |
# | [02 Masked token modelling](02_masked_token_modelling.ipynb) | masks, the forward pass, the loss | how well a hidden token can be guessed, for each share that is hidden |
# | [03 Training](03_training.ipynb) | optimizer and learning rate, the training loop, the validation loop | your own model |
# | [04 Gamma schedules](04_gamma_schedules.ipynb) | three schedules | how many tokens each step keeps |
# | [05 Iterative decoding](05_iterative_decoding.ipynb) | one step, and the loop around it | holes filled step by step |
# | [06 Inpainting and FID](06_inpainting_and_fid.ipynb) | the Fréchet distance | all 747 test pictures filled by your model, and a number that says how well |
#
# And these are the eleven exercises:
#
# | exercise | notebook | what it is |
# |---|---|---|
# | `multi_head_attention` | 01 | a module, `(B, T, D)` -> `(B, T, D)`: every token asks all others |
# | `sample_mask` | 02 | which tokens to hide in training, `(B, T)` bool |
# | `masked_forward` | 02 | hide, predict: logits `(B, T, 1024)` and targets `(B, T)` |
# | `mvtm_loss` | 02 | how far off the prediction is, one number |
# | `configure_optimizers` | 03 | AdamW, and a learning rate that rises and falls |
# | `train_one_epoch` | 03 | once through the training tokens, learning |
# | `eval_one_epoch` | 03 | once through the validation tokens, only looking |
# | `gamma_func` | 04 | linear, cosine, square: the share that is still hidden, over progress |
# | `inpainting` | 05 | one decoding step: predict, keep the most confident, hide the rest |
# | `iterative_decode` | 05 | the steps one after another, until nothing is hidden |
# | `frechet_distance` | 06 | how far apart two sets of pictures are |
#
# ## A picture of your own
#
# Compose a cat, give it a hole, have it filled. Change the numbers in the first two lines and run the cell again, as often
# as you like.

# %%
cat = [1, 5, 9, 4, 12, 10]
seed = 7  # of the holes
# cat: body 0-14, fur 0-8, eyes 0-14, mouth 0-9, accessory 0-15, background 0-11

from lab3.data.masks import paint, random_holes

own = compose(torch.tensor([cat] * 4))
own_holes = random_holes(4, seed=seed)
own_masked = paint(own, own_holes)
plots.comparison({"masked": own_masked, "filled\nat once": fill_at_once(own_masked, own_holes)},
                 "Your cat, four holes, each filled at once.")

# %% [markdown]
# ## To think about
#
# * Find a hole and a cat that the model fills well, and a cat of the same kind that it does not. What must the hole leave
#   visible for the model to know?
# * Some of the wrong fills in the figures above are perfectly good cats, just not the original. Is that a mistake? How
#   would you score it?
# * A token is hidden when one of its pixels is. What would be gained, and what lost, if it had to lose half of them?
#
# ## Go further
#
# Two tasks to warm up, each with its own check. Neither is graded.
#
# **How far apart, in decibels** (*5 minutes, easy*). Write the PSNR from its formula above. Mind the type: a difference of two
# uint8 numbers cannot be negative.

# %%
from lab3.notebook.practice import practice


def decibels(one, other):
    """The PSNR of two uint8 tensors of one shape, in dB, a float."""
    ### BEGIN SOLUTION
    error = (one.double() - other.double()).square().mean().item()
    return 10 * math.log10(255**2 / error)
    ### END SOLUTION

# %%
dark, light = (torch.full((3, 8, 8), level, dtype=torch.uint8) for level in (10, 20))
practice(decibels, ((light, dark), 20 * math.log10(25.5)), ((dark, light), 20 * math.log10(25.5)),
         ((redrawn[:1], pictures[:1]), psnr(redrawn[:1], pictures[:1])))

# %% [markdown]
# **From pixels to tokens** (*10 minutes, medium*). Write the rule from the section on holes: a token is hidden if any of its
# 4 x 4 pixels is. Reshape the pixels to give those of one token their own axes.

# %%
def tokens_of(holes):
    """Which tokens holes (N, 64, 64) bool hide, True means hidden: (N, 256) bool, row by row."""
    ### BEGIN SOLUTION
    return holes.view(-1, 16, 4, 16, 4).any(dim=4).any(dim=2).flatten(1)
    ### END SOLUTION

# %%
one_pixel = torch.zeros(1, 64, 64, dtype=torch.bool)
one_pixel[0, 9, 62] = True  # in the third row of tokens, in the last column
practice(tokens_of, ((one_pixel,), F.one_hot(torch.tensor([2 * 16 + 15]), 256).bool()),
         ((lab.data.holes,), hidden_tokens(lab.data.holes)))

# %% [markdown]
# Next: [01 Multi-head attention](01_multi_head_attention.ipynb), where you build the part that looks around.
