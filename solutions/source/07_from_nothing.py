# %% [markdown]
# # 07 From nothing
#
# * **You will be able to** draw whole cats with the decoding you wrote; say why steps matter, what order and temperature do, and whether the model remembers; ask for the cat you want.
# * **Time**: about 45 minutes for you. The machine needs a few minutes; the first cell prints how many. Not graded.
# * **Needs**: your schedules (04) and your decoding (05). Without your decoding, every picture below comes from one pass. The models are the kit's.

# %%
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3

lab = lab3.start("07")

# %% [markdown]
# ## Hide everything
#
# So far a hole hid about a third of the tokens, and what was left of the cat nearly decided the rest. Now all 256 tokens are
# hidden. Your `iterative_decode` does not change: it gets a mask that is True everywhere.
#
# The embedded cats are composed from known layers, so for each picture the kit finds the nearest cat that can be composed
# (`lab3/metrics/truth.py`). A picture is *valid* if it is one of these cats, apart from what the tokenizer blurs. If it is
# not, the kit names the parts that are *torn*: some pixels show another value of the same part.
#
# How many cats are there? Six choices make a cat, and a training cat wears seven of the nine furs that its body could have.

# %% tags=["nbval-check-output"]
from lab3.metrics.truth import PARTS, VALUES

for part in PARTS:
    print(f"{part:10s} {len(VALUES[part]):2d} values: {', '.join(VALUES[part][:4])}, ...")
n_cats = 7 * math.prod(len(VALUES[part]) for part in PARTS if part != "fur")
print(f"{n_cats:,} cats, so one of them holds {math.log2(n_cats):.1f} bits; 12,000 are in training")

# %% [markdown]
# **Predict.** The same model and the same seed, with a cosine schedule of $T$ = 1, 2, 4, 8, 16 and 64 steps. From which $T$
# on do you see cats? What do the pictures of $T = 1$ look like?

# %%
from dataclasses import replace

from lab3.common import plots
from lab3.common.progress import progress_bar
from lab3.decoding.generate import generate
from lab3.metrics.score import score_generated
from lab3.metrics.truth import entropy, identify, novel, shares, summary, words
from lab3.presets import DecodingConfig

lab.predict("one_pass", ...)  # your guess: what share of T = 1 is a valid cat, in %
small = lab.preset.name == "smoke"
n = 8 if small else 32
steps = (1, 2, 4) if small else (1, 2, 4, 8, 16, 64)
usual = steps[-2]  # 16 steps, of which every comparison below changes one thing
shipped = lab.shipped()


def draw(transformer=shipped, answers=None, n=n, total_iter=usual, **changes):
    """n pictures from nothing, by your decoding: a `Filled`."""
    setting = replace(DecodingConfig(), total_iter=total_iter, sweet_spot=total_iter, **changes)
    return generate(n, lab.tokenizer, transformer, answers or lab.answers,
                    setting, seed=0, progress=False)


if "iterative_decode" in lab.missing:
    print("Without your iterative_decode (notebook 05) every picture below comes from one pass.")
made = {total_iter: draw(total_iter=total_iter)
        for total_iter in progress_bar(steps, desc="decodings")}
by_steps = {total_iter: one.decoded for total_iter, one in made.items()}
plots.comparison({f"T = {total_iter}": pictures[:8] for total_iter, pictures in by_steps.items()},
                 "Cats from nothing. One pass gives mud; every further step makes the parts agree.")

# %%
from lab3.model.likelihood import bits

held_out = lab.tokenizer.encode(lab.data.val[:n]).to(lab.device)
named = {total_iter: identify(pictures) for total_iter, pictures in by_steps.items()}
distances = [score_generated(by_steps[total_iter], lab.data)["distance"] for total_iter in steps]
validity = [named[total_iter].valid.float().mean().item() for total_iter in steps]
a_cat = [bits(shipped, held_out, hidden=made[total_iter].masks[0, :-1].sum(dim=1))[0]
         for total_iter in steps]
for total_iter, distance, valid, needed in zip(steps, distances, validity, a_cat):
    print(f"T = {total_iter:2d}: FD-Lite0 to the training cats {distance:4.0f}, "
          f"valid {valid:4.0%}, {needed:5.0f} bits a cat")
lab.observe("one_pass", 100 * validity[0])
kits = "the kit's model"
plots.lines({"valid pictures": {kits: validity}, "FD-Lite0": {kits: distances},
             "bits a cat": {kits: a_cat}}, "steps T",
            "Valid cats, distance and bits: the first steps count most.", x=steps)

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# With holes, one step and eight were hard to tell apart. From nothing, steps decide: mud at $T = 1$, parts of several cats at
# 2 and 4, whole cats from 8 or 16 on.
#
# The third panel shows the bits of notebook 02 when the tokens of one step do not see one another: what a decoding in
# $T$ steps and a random order needs for cats that it has never seen. At $T = 256$ it would be the number of notebook
# 02.
#
# </details>
#
# ## Why one pass gives mud
#
# One pass gives the model's belief about each token separately. **Predict.** If every token is drawn on its own, how many
# bits of choice go into the picture? Compare with the bits that a cat holds.

# %%
from lab3.model.transformer import MASK_TOKEN_ID

with torch.no_grad():
    nothing = torch.full((1, 256), MASK_TOKEN_ID, device=lab.device)
    log_p = shipped(nothing)[0, :, :MASK_TOKEN_ID].float().log_softmax(dim=-1)  # (256, V)
choice = -(log_p.exp() * log_p).sum(dim=-1) / math.log(2)  # (256,)
print(f"all tokens of one pass together: {choice.sum():.0f} bits; "
      f"a cat: {math.log2(n_cats):.1f} bits")
likeliest = lab.tokenizer.decode(log_p.argmax(dim=-1)[None])
plots.comparison({"one pass": torch.cat([likeliest, by_steps[1][:7]])},
                 "First the likeliest codes, then seven draws. "
                 "They show what places hold on average, not one cat.")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# About ⟦together: (\d+) bits⟧ bits against 21.5. The margins are right, place by place: some cats are blue here, some are pink
# there. Their product, though, spreads over about $2^{⟦together: (\d+) bits⟧}$ pictures, of which $2^{21.5}$ are cats. The
# first tokens that a step keeps choose the colour, and all later ones agree with it: this is what the other steps are for.
#
# </details>
#
# ## Variety against quality
#
# The choice temperature decides how far the order follows the model's confidence. **Predict.** At temperature 0 the model
# keeps what it is most confident of. Are these pictures better? Are they as different from one another?

# %%
temperatures = (0.0, 4.5) if small else (0.0, 1.0, 4.5, 15.0)
by_temperature = {value: by_steps[usual] if value == 4.5  # the default, drawn above
                  else draw(choice_temperature=value).decoded
                  for value in progress_bar(temperatures, desc="decodings")}
panels = {"valid pictures": [], "bits of variety, body": [], "bits of variety, background": []}
for value, pictures in by_temperature.items():
    found = identify(pictures)
    variety = entropy(shares(found.values), n)
    row = (found.valid.float().mean(), variety[PARTS.index("body")],
           variety[PARTS.index("background")])
    for values, number in zip(panels.values(), row):
        values.append(number.item())
plots.lines({label: {f"{n} pictures": values} for label, values in panels.items()},
            "choice temperature", "Noise on the order costs or gains validity, and gives variety.",
            x=temperatures)

# %%
plots.comparison({f"temperature\n{value:g}": pictures[:8]
                  for value, pictures in by_temperature.items()},
                 f"Eight cats at each choice temperature, {usual} steps, the same seed.")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# The training cats have 3.9 bits of variety in the body and 3.6 in the background. Without noise, the tokens that the model
# is most confident of come first in every picture, so all pictures begin alike and some values come too often. With much noise the
# order is nearly random, and decoding keeps tokens that the model hardly believed in.
#
# Another temperature divides the logits before codes are drawn, so that codes the model hardly believes in are rare:
# `python -m lab3 generate --schedule square --code-temperature 0.3 --out out/cats`. `docs/RESULTS.md` has what it gains.
#
# </details>
#
# ## In which order?
#
# Another order is another `inpainting` in the same loop: it keeps as many tokens as yours, but not the most confident
# ones. *Random* needs no explanation. *Halton* ([Besnier et al., 2025](https://arxiv.org/abs/2503.17076)) spreads the
# tokens of a step evenly over the picture, by a fixed sequence of places. The first four, row and column:

# %% tags=["nbval-check-output"]
from lab3.decoding.generate import ORDERS, halton_rank, in_order

places = halton_rank().argsort()[:4]
print([(int(place) // 16, int(place) % 16) for place in places])

# %% [markdown]
# **Predict.** Tokens that are close together depend on each other most. Which of the three orders tears fewest cats?

# %%
from lab3.exercises.answers import load_answers
from lab3.exercises.table import DECODING


def answers_in(order):
    """Your saved answers, with an `inpainting` of this order."""
    return load_answers(lab.work, DECODING, {"inpainting": lambda own: in_order(own, order)})


by_order = {}
if set(DECODING) & set(lab.missing):
    print("Orders need your gamma_func (04), inpainting and iterative_decode (05).")
else:
    by_order = {order: by_steps[usual] if order == "confidence"
                else draw(answers=answers_in(order)).decoded
                for order in progress_bar(ORDERS, desc="decodings")}
    for order, pictures in by_order.items():
        found = summary(identify(pictures))
        torn = ", ".join(f"{part} {share:.0%}" for part, share in found["torn"].items())
        print(f"{order:10s} valid {found['validity']:4.0%}; torn: {torn}")
    print(f"{n} pictures each: differences below "
          f"{200 * math.sqrt(0.5 / n):.0f} points may be chance")
plots.comparison({order: pictures[:8] for order, pictures in by_order.items()}
                 or {"one pass": by_steps[1][:8]},
                 f"{usual} steps in three orders.")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# All three keep the same number of tokens in every step; only the places differ. Compare the shares of valid pictures, and
# mind the last line. The background is the easiest part to agree on, the face the hardest, and confidence leaves the hardest
# places to the end.
#
# </details>
#
# ## What is torn?
#
# **Predict.** Which part is torn most often? Think of its size, and of how many values it has.

# %%
lab.predict("torn_part", ...)  # your guess: "body", "fur", "eyes", "mouth", "accessory"
wrong = (~named[usual].valid).nonzero()[:8, 0]
told = words(named[usual])
for place in wrong.tolist():
    print(f"{place:2d}: {told[place]}")
torn = torch.stack([named[total_iter].torn.float().mean(dim=0) for total_iter in steps])  # (S, 6)
parts = PARTS[:5]  # without the background
lab.observe("torn_part", parts[torn[:, :5].mean(dim=0).argmax()])
plots.curves({"share of pictures torn": {
    part: (steps, torn[:, column].tolist()) for column, part in enumerate(parts)}},
    "steps T", "The parts of a cat that are torn, by the number of steps.")

# %%
plots.comparison({"not a cat": by_steps[usual][wrong] if len(wrong)
                  else by_steps[1][:1]}, f"Pictures of T = {usual} that no layers compose.")

# %% [markdown]
# ## Does it remember?
#
# A model could draw perfect cats because it has memorised its training set. Here you can tell: 12,000 of the possible cats,
# the background aside, are in training.
#
# **Predict.** If the model draws any possible cat as often as any other, what share of its cats is in no training
# picture? What if it only remembers?

# %%
drawn = torch.cat([found.choices[found.valid]
                   for found in map(identify, (*by_steps.values(), *by_temperature.values()))])
chance = 1 - 12_000 / (n_cats / len(VALUES["background"]))
print(f"{len(drawn)} valid cats, {novel(drawn).float().mean():.0%} of them in no training picture; "
      f"by chance {chance:.0%}")

# %% [markdown]
# If the two shares are close, the model does not remember: it has learned what goes together, and composes. If the first were
# near 0, it would be copying.
#
# ## Impossible cats
#
# What if you force it? The tokens of the upper left come from a cat with a black hat, those of the upper right from one with
# a pink bow. Both are known, so no step may change them; everything else is hidden.
#
# **Predict.** Does the model draw a hat, a bow, or both? What becomes of the rest?

# %%
from lab3.data import cats
from lab3.decoding.inpaint import fill

worn = [VALUES["accessory"].index(name) for name in ("black hat", "pink bow")]
prompts = cats.choices("train")[:1].repeat(2, 1)  # two cats that differ in what they wear alone
prompts[:, PARTS.index("accessory")] = torch.tensor(worn)
both = cats.compose(prompts)
halves = torch.cat([both[0, :, :, :28], both[1, :, :, 28:]], dim=2)[None]
hole = torch.ones(1, 64, 64, dtype=torch.bool)
hole[:, :24] = False  # the upper six rows of tokens are known
masked = halves.where(~hole[:, None], 128)
forced = fill(masked.expand(6, -1, -1, -1), hole.expand(6, -1, -1), lab.tokenizer, shipped,
              lab.answers, replace(DecodingConfig(), total_iter=16, sweet_spot=16), seed=0,
              progress=False).decoded
for text in words(identify(forced)):
    print(text)
plots.comparison({"prompt,\nfillings": torch.cat([masked, forced])},
                 "A black hat on the left, a pink bow on the right, and what the model does.")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# No training cat wears both, so this picture has probability 0. The model has no way to say so: a softmax always gives a
# code. It takes each side for what it is and goes on below as with any cat. In a generated picture, such contradictions
# arise when one step keeps two places that belong to two cats: no later step may change them.
#
# </details>
#
# ## Ask for a cat: guidance
#
# The kit has a second, small model that knows labels: one value for each part, or "any". Each part has an embedding, and
# their sum is added to every token's embedding. In training, labels were replaced by "any" at random, so one model gives
# both:
#
# * *conditional* logits $c$, from a pass with labels,
# * *unconditional* logits $u$, from a pass with every label "any".
#
# Labels alone are often not enough: the model follows them about as far as it learned to.
# [Guidance](https://arxiv.org/abs/2207.12598) (Ho and Salimans, 2022) takes what the labels change, $c - u$, and goes
# further that way, by a scale $s$:
#
# $$\ell = (1 + s)\, c - s\, u$$
#
# In probabilities, $p \propto p_c \cdot (p_c / p_u)^s$: codes that became likelier through the labels become likelier again.
#
# **Predict.** Three codes have probabilities 0.5, 0.3, 0.2 without labels and 0.4, 0.5, 0.1 with them. Which gain at $s = 1$?

# %% tags=["nbval-check-output"]
p_u, p_c = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.5, 0.1])
for s in (0, 1, 4):
    guided = p_c * (p_c / p_u) ** s
    print(f"s = {s}:", [round(value, 2) for value in (guided / guided.sum()).tolist()])

# %% [markdown]
# ## First step: on probabilities
#
# *About 3 minutes, easy, not graded.* The formula of the cell above as a function. The result has to add up to 1.

# %%
from lab3.notebook.practice import practice


def tilt(p_c, p_u, scale):
    """p_c * (p_c / p_u) ** scale, normalised over the last axis: (..., V) -> (..., V)."""
    ### BEGIN SOLUTION
    weight = p_c * (p_c / p_u) ** scale
    return weight / weight.sum(dim=-1, keepdim=True)
    ### END SOLUTION

# %% tags=["nbval-check-output"]
practice(tilt, ((p_c, p_u, 0), p_c), ((p_u, p_u, 3), p_u),
         ((p_c, p_u, 1), torch.tensor([0.32, 0.25 / 0.3, 0.05]) / (0.37 + 0.25 / 0.3)),
         ((p_c.expand(2, 3), p_u.expand(2, 3), 0), p_c.expand(2, 3)))

# %% [markdown]
# ## Exercise (optional): `guided_logits`
#
# *About 5 minutes, easy.*
#
# * `conditional`, `unconditional`: logits `(..., V + 1)`; `scale`: a number, 0 or more.
# * The result has their shape and dtype. The arguments stay as they are.
# * At scale 0 it is `conditional` exactly, also where `unconditional` is infinite.
# * A negative `scale` and shapes that differ raise a `ValueError` that names the argument.
#
# This exercise is checked and saved like the others. It earns no points.
#
# <details><summary>Hint 1: logs</summary>
#
# Take the logarithm of `tilt`'s first line: products become sums, and the power becomes a factor. Normalising is left to the
# softmax.
#
# </details>
# <details><summary>Hint 2: an outline</summary>
#
# Raise the two errors; at scale 0 return a copy of `conditional`, since 0 times infinity is NaN; else one line, the formula in
# logits. It needs neither a loop nor a softmax.
#
# </details>

# %%
#| exercise: guided_logits
def guided_logits(conditional, unconditional, scale):
    """Logits that follow the labels further than the model does by itself.

    Args:
        conditional: (..., V + 1), the logits of a pass with labels.
        unconditional: (..., V + 1), those of the same tokens with every label "any".
        scale: how far to go, 0 or more; 0 gives the conditional logits.

    Returns:
        (..., V + 1), the guided logits.

    Raises:
        ValueError: scale < 0, or shapes that differ.
    """
    ### BEGIN SOLUTION
    if scale < 0:
        raise ValueError(f"scale must be 0 or more, not {scale}")
    if conditional.shape != unconditional.shape:
        raise ValueError(f"conditional and unconditional differ in shape: "
                         f"{tuple(conditional.shape)} and {tuple(unconditional.shape)}")
    if scale == 0:  # 0 times an infinite logit would be NaN
        return conditional.clone()
    return (1 + scale) * conditional - scale * unconditional
    ### END SOLUTION

# %%
lab.check("guided_logits")

# %% [markdown]
# ## A blue cat with glasses, the rest as you like
#
# `Guided` is a callable that runs the model twice and gives your guided logits. Your `iterative_decode` uses it like
# any transformer and needs to know nothing of labels.
#
# **Predict.** At which scale are all cats blue with glasses? What does a large scale cost?

# %%
from lab3.decoding.guidance import Guided
from lab3.metrics.truth import labels_of, obedience

wish = "body=blue, eyes=glasses"
labels, knows = labels_of(wish), lab.labelled()
scales = (0, 2) if small else (0, 1, 2, 4)
by_scale = {}
for scale in progress_bar(scales, desc="decodings"):
    model = Guided(knows, labels.to(lab.device), scale, guided_logits)
    by_scale[scale] = draw(model).decoded
no_labels = draw(knows, n=8).decoded
plots.comparison({"no labels": no_labels}
                 | {f"scale {scale}": pictures[:8] for scale, pictures in by_scale.items()},
                 f"{wish}, the rest as the model likes.")

# %%
free = ("fur", "accessory", "background")  # parts that the wish leaves open
obeyed = {"body": [], "eyes": [], "together": []}
valid, variety = [], {part: [] for part in free}
for pictures in by_scale.values():
    found = identify(pictures)
    for part, share in obedience(found, labels).items():
        obeyed[part].append(share)
    valid.append(found.valid.float().mean().item())
    spread = entropy(shares(found.values), n)
    for part in free:
        variety[part].append(spread[PARTS.index(part)].item())
for scale, share, good in zip(scales, obeyed["together"], valid):
    print(f"scale {scale}: {share:4.0%} blue with glasses, {good:4.0%} valid")
plots.curves({"share that shows what was asked": {
                  part: (scales, values) for part, values in obeyed.items()},
              "share of valid pictures": {"valid": (scales, valid)},
              "bits of variety": {part: (scales, values) for part, values in variety.items()}},
             "guidance scale s", "Guidance makes the model obey; what was left open varies less.")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# Without labels about one cat in 225 is blue with glasses, by chance. With labels alone, scale 0, some pictures show what you
# asked for; guidance raises their share. Too large a scale does harm: logits are pulled far beyond what the model learned,
# pictures are torn, and the parts that you left open vary less.
#
# </details>
#
# Change `wish` and run the three cells again: `VALUES` above lists what you can ask for. From the command line:
#
# `python -m lab3 generate --labels "body=blue, eyes=glasses" --guidance 2 --out out/blue`

# %% [markdown]
# ## Explain
#
# Answer in two or three sentences each, in the cell below. No code. Your course may mark these.
#
# 1. Two codes have probabilities 0.5 and 0.5 with labels, and 0.2 and 0.8 without. What are they under guidance with $s = 1$
#    and $s = 3$?
# 2. In one pass, a small hole often looks fine and a whole cat is mud. The model is the same. What is different?

# %% [markdown]
# *Your answers:*
#
# 1. …
# 2. …

# %% [markdown]
# ## To think about
#
# * Ask for a body together with a fur that no training cat of this body wears. Does the model obey? What does guidance do?
# * Guidance costs two passes a step. The same number of passes could go into twice the steps. Which would you choose?
# * The formula weighs logits. What would it do to a code that the model considers impossible with labels, and nearly
#   impossible without?
#
# ## Go further
#
# Two tasks beyond the lab, each with its own check. Neither is graded.
#
# **Guidance that waits** (*15 minutes, medium*). In masked models strong guidance harms the first steps and helps the later ones
# ([Rojas et al., 2025](https://arxiv.org/abs/2507.08965)). Let the scale grow in proportion to the share of tokens that are
# known, from 0 where everything is hidden. Then use it in place of a fixed scale: a subclass of `Guided` that sets
# `self.scale` in `forward`.

# %%
def scale_of(z_indices, scale, mask_token_id=MASK_TOKEN_ID):
    """The scale of a pass: `scale` times the share of z_indices (B, T) that is known, a float."""
    ### BEGIN SOLUTION
    return scale * (z_indices != mask_token_id).double().mean().item()
    ### END SOLUTION

# %% tags=["nbval-check-output"]
half = torch.tensor([[MASK_TOKEN_ID, 3], [5, MASK_TOKEN_ID]])
practice(scale_of, ((half, 2), 1.0), ((half[:, 1:], 4), 2.0),
         ((torch.full((2, 4), MASK_TOKEN_ID), 3), 0.0))

# %% [markdown]
# **Repair what is torn** (*30 minutes, hard*). A token that is kept is never looked at again, so a contradiction stays.
# [ReMDM](https://arxiv.org/abs/2503.00307) masks known tokens again. Write its simplest form: hide the `n` tokens of each
# row that the model itself now finds least likely, given all others. Then decode from that mask, and count the valid cats
# before and after.

# %%
@torch.no_grad()
def doubtful(transformer, z_indices, n):
    """A mask (B, T) of the n least likely tokens of each row, from one pass over z_indices (B, T).

    transformer: (B, T) -> logits (B, T, V + 1). How likely: the softmax over the V codes.
    """
    ### BEGIN SOLUTION
    log_p = transformer(z_indices)[..., :-1].log_softmax(dim=-1)
    own = log_p.gather(2, z_indices[..., None])[..., 0]  # (B, T)
    return own.argsort(dim=1).argsort(dim=1) < n
    ### END SOLUTION

# %% tags=["nbval-check-output"]
def two_codes(z):
    """Logits (B, T, 3): code 0 is likely, the less so the farther to the right."""
    right = torch.arange(z.shape[1]).expand(z.shape).float()
    return torch.stack([2 - 0.1 * right, 0 * right, 0 * right + 99], dim=-1)


z = torch.tensor([[0, 1, 0, 0], [1, 1, 0, 1]])
practice(doubtful,
         ((two_codes, z, 1), torch.tensor([[0, 1, 0, 0], [1, 0, 0, 0]]).bool()),
         ((two_codes, z, 2), torch.tensor([[0, 1, 0, 1], [1, 1, 0, 0]]).bool()))

# %% [markdown]
# ## Hand in
#
# Have you changed an answer since you handed in? Save all your notebooks (Ctrl-S), set `saved = True` and run this cell: it
# packs `lab3-handin.zip` again.

# %%
saved = False
if saved:
    lab.hand_in()
