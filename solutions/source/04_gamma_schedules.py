# %% [markdown]
# # 04 Gamma schedules
#
# * **You will be able to** write how fast a hole closes as a function; tell what total_iter and sweet_spot do; find a schedule that runs the wrong way.
# * **Time**: about 45 minutes for you, without "Go further". The machine needs less than a minute.
# * **Needs**: nothing from earlier notebooks. One cell uses the kit's model, with your attention of 01 or PyTorch's.

# %%
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3

lab = lab3.start("04")

# %% [markdown]
# ## How fast may a hole close?
#
# Your transformer predicts every hidden token at once. Iterative decoding, which you build in the next notebook, does not keep
# all of them at once: it keeps the model's few most confident predictions, hides the others again, and predicts once more.
# What it needs from you here is a plan: after each of these steps, how much of the hole is still hidden?
#
# With `total_iter` steps, numbered $t = 0, 1, \dots$, the **progress** after step $t$ is
#
# $$r = \frac{t + 1}{\mathtt{total\_iter}} \in (0, 1]$$
#
# and the plan is a function $\gamma$ of progress: **$\gamma(r)$ is the share of the hole that is still hidden when the share
# $r$ of the steps is done.** Nothing is filled in at the start, nothing is left at the end, and a revealed token stays
# revealed:
#
# $$\gamma(0) = 1, \qquad \gamma(1) = 0, \qquad \gamma \text{ never rises.}$$
#
# You write three such functions:
#
# | name | $\gamma(r)$ | at $r = 0$ | at $r = 1/2$ | at $r = 1$ |
# |---|---|---|---|---|
# | `"linear"` | $1 - r$ | 1 | 0.5 | 0 |
# | `"cosine"` | $\cos(\pi r / 2)$ | 1 | 0.707 | 0 |
# | `"square"` | $1 - r^2$ | 1 | 0.75 | 0 |
#
# The cosine is [MaskGIT](https://arxiv.org/abs/2202.04200)'s choice. A hole of $n$ hidden tokens has
# $\lfloor \gamma(r)\, n \rfloor$ of them left after the step. Note what $\gamma$ is *not*: it is not the share that is
# known, nor a mixing weight between old and new tokens. It only counts.
#
# **Predict.** A hole hides 139 tokens, and there are 8 steps. The count is a product, rounded down. Does the number format
# of the product matter? The cell takes it once in Python's own floats, which have 53 binary digits, and once in bfloat16,
# which has 8.

# %% tags=["nbval-check-output"]
n_hidden = 139
shares = [math.cos(math.pi / 2 * (t + 1) / 8) for t in range(8)]
print("float64 ", [math.floor(share * n_hidden) for share in shares])
print("bfloat16", [math.floor(torch.tensor(share).bfloat16() * n_hidden) for share in shares])

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# After the second step 128 tokens are left, or 129. In bfloat16 the share 0.9239 becomes 0.9258, and above 128 there are whole
# numbers only: 128.4 comes out as 129. Mixed precision produces such numbers without being asked, so this lab takes all counts
# in float64.
#
# </details>
#
# ## First step: a function that makes functions
#
# *About 5 minutes, easy, not graded.* `power(3)` should be a function itself: called with $r$, it gives $1 - r^3$.

# %%
from lab3.notebook.practice import practice


def power(n):
    """The schedule r -> 1 - r ** n, a function of a float or an array."""
    ### BEGIN SOLUTION
    return lambda r: 1 - r**n
    ### END SOLUTION

# %% tags=["nbval-check-output"]
def is_power(n):
    """A check for `practice`: what is wrong with something that should be r -> 1 - r ** n."""
    return lambda gamma: "" if callable(gamma) and math.isclose(gamma(0.5), 1 - 0.5**n) else (
        f"power({n}) should be a function, with {1 - 0.5**n} at r = 0.5")


practice(power, *(((n,), is_power(n)) for n in (1, 2, 3)))

# %% [markdown]
# ## Exercise: `gamma_func`
#
# *About 10 minutes, easy.*
#
# `gamma_func(mode)` gives you the function $\gamma$, not a number.
#
# * `mode` is `"linear"`, `"cosine"` (the default) or `"square"`. Any other raises a `ValueError` that names
#   `mode`.
# * `gamma(ratio)` takes a float or a numpy array with values in $[0, 1]$ and returns the type it was given: a float for a
#   float, an array of the same shape for an array. Notebook 05 passes floats; the figures here pass arrays.
# * It does not change the array.
#
# <details><summary>Hint 1: a function that gives a function</summary>
#
# A `def` or a `lambda` inside `gamma_func` can be returned like any other value. A dict can hold three of them.
#
# </details>
# <details><summary>Hint 2: numbers and arrays</summary>
#
# `-` and `**` work on both. `math.cos` takes one number only; numpy has a cosine that takes either.
#
# </details>
# <details><summary>Hint 3: the angle</summary>
#
# Angles are in radians. At $r = 1$ the cosine has to be 0: a quarter of a full turn.
#
# </details>
# <details><summary>Hint 4: an outline</summary>
#
# A dict from the three names to three functions of $r$, written with `-`, `**` and numpy's cosine. If `mode` is not among its
# keys, a ValueError that names `mode`. Otherwise return the function, without calling it.
#
# </details>

# %%
#| exercise: gamma_func
def gamma_func(mode="cosine"):
    """A schedule: how much of a hole is still hidden after a share of the steps.

    Args:
        mode: "linear", 1 - r; "cosine", cos(pi r / 2); or "square", 1 - r ** 2.

    Returns:
        gamma, a function of progress r in [0, 1]: a float gives a float,
            a numpy array an array of its shape.

    Raises:
        ValueError: mode is none of these.
    """
    ### BEGIN SOLUTION
    schedules = {
        "linear": lambda r: 1 - r,
        "cosine": lambda r: np.cos(np.pi * r / 2),
        "square": lambda r: 1 - r**2,
    }
    if mode not in schedules:
        raise ValueError(f"mode must be one of {', '.join(schedules)}, not {mode!r}")
    return schedules[mode]
    ### END SOLUTION

# %%
lab.check("gamma_func")

# %% [markdown]
# ## Three plans
#
# Your three functions, with a marker for each of eight steps.

# %%
from lab3.common import plots
from lab3.presets import SCHEDULES

total_iter = 8
schedules = {name: gamma_func(name) for name in SCHEDULES}
plots.schedule_curves(schedules, total_iter,
                      "Cosine and square leave more hidden at every step but the last.")

# %% [markdown]
# Linear reveals the same number of tokens at each step. The other two are **concave**: they curve above the line. They leave
# more hidden at first, so they reveal little while the model sees little, and much at the end, when most of the picture is
# known and constrains the rest.
#
# **Predict.** A hole of average size hides 85 tokens. Which schedule reveals most in its *first* of eight steps, and how
# many? Which in its last?

# %% tags=["nbval-check-output"]
lab.predict("first_step", ...)  # your guess: "linear", "cosine" or "square" first?


def hidden_counts(gamma, total_iter, n_hidden):
    """How many tokens are hidden before the first step and after each.

    Whole numbers, (total_iter + 1,).
    """
    progress = np.arange(total_iter + 1) / total_iter  # 0, 1/8, ... 1
    return np.floor(gamma(progress) * n_hidden).astype(int)


revealed = {}
for name, gamma in schedules.items():
    hidden = hidden_counts(gamma, total_iter, 85)
    revealed[name] = -np.diff(hidden)
    print(f"{name:8s} hidden {hidden.tolist()}, revealed {revealed[name].tolist()}")
lab.observe("first_step", max(revealed, key=lambda name: revealed[name][0]))

# %%
plots.step_bars(revealed,
                "Linear reveals 10 or 11 tokens a step. "
                "Cosine and square begin with 2 and end with 16 and more.")

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# Linear reveals 11 tokens in its first step, cosine and square only 2. In the last step it is the other way round: 10, 16 and
# 19. Cosine and square never differ by more than 5 tokens. All three make eight passes through the transformer: a schedule
# costs no time; it only divides the tokens among the steps.
#
# </details>
#
# ## Steps and the sweet spot
#
# Two numbers go with a schedule. **total_iter** is how many steps $\gamma$ is cut into. **sweet_spot** is how many of
# them are actually made: decoding stops early, and *all that is still hidden then takes its last prediction at once*.
# The progress is still counted against `total_iter`: stopping after 4 of 8 steps is not the same as making 4 steps.
#
# **Predict.** You stop after $s$ of 8 steps. How many of the 85 tokens are then taken all at once, for $s = 1$, $4$, $8$? For
# which $s$ does the schedule make no difference to the picture at all?

# %% tags=["nbval-check-output"]
lab.predict("taken_at_once", ...)  # your guess: how many for s = 4, cosine?
print("tokens that are taken all at once")
print("sweet_spot  " + "".join(f"{name:>8s}" for name in schedules))
for sweet_spot in range(1, total_iter + 1):
    left = [hidden_counts(gamma, total_iter, 85)[sweet_spot] for gamma in schedules.values()]
    print(f"{sweet_spot:10d}  " + "".join(f"{count:8d}" for count in left))
lab.observe("taken_at_once", int(hidden_counts(schedules["cosine"], total_iter, 85)[4]))

# %% [markdown]
# <details><summary>What you should have seen</summary>
#
# With $s = 8$ nothing is left over. With $s = 4$ it is 42 tokens for linear, but 60 and 63 for cosine and square: they still
# had the larger part ahead of them. With $s = 1$ **every** token comes from the first prediction, those that the step would
# keep and those that it would hide. In one pass neither schedule nor temperature can change a single token. A public report
# of the original lab gives as its best setting `total_iter` 5, `sweet_spot` 1, cosine. The word cosine has no meaning in that
# line.
#
# </details>
#
# ## Masks, step by step
#
# The model decides which tokens a step reveals: the most confident ones. You need no model to see the *pace*. Here each token
# of one cat's hole gets a random confidence, once; every step hides the least confident ones again, as many as your $\gamma$
# says. The masked cat comes first, then the mask in the latent domain: dark is hidden.

# %%
from lab3.explorer.core import masks_after
from lab3.data.masks import hidden_tokens

cat = 27
mask = hidden_tokens(lab.data.holes[cat:cat + 1])[0]  # (256,), True: hidden
n_hidden = int(mask.sum())

films = {name: masks_after(mask, hidden_counts(gamma, total_iter, n_hidden))
         for name, gamma in schedules.items()}
plots.mask_steps(films, lab.data.masked[cat],
                 "One order of the tokens, three paces: "
                 "after four steps linear has revealed half of the hole, square a quarter.")

# %% [markdown]
# ## The explorer
#
# Try it yourself. The schedules named *yours* are those of your `gamma_func`; others come from papers, from a formula that you
# type, such as `1 - r^3`, or from a curve that you drag. Choose whose hole, or paint one with the mouse; a second setting can
# stand beside the first; the steps can be played. Filling the hole is the exercise of the next notebook. Until then the order
# of the tokens is drawn at random, as above, and only the pace counts.
#
# (Where there are no widgets, as in a printed notebook, you see one setting only.) All of it works with the keyboard: tab
# moves from one control to the next, arrows move a slider, a point of the curve or the brush, space paints, and arrows and
# enter choose from a list.
#
# Things to look for:
#
# * Set `total_iter` to 21. How many steps of cosine reveal just one token? How many of linear?
# * Test picture 28 hides 137 tokens, test picture 39 hides 49. What changes with the hole, and what does
#   not?
# * Leave `total_iter` at 8 and bring `sweet_spot` down. When do more tokens come all at once than step by step: for linear,
#   for square?
# * Type `0.5 + r / 4`, which rises. What does the counting rule make of it? Why does the hole close all the same?

# %%
lab.explore(hole=cat)

# %% [markdown]
# ## What goes wrong: noise that grows
#
# The next notebook adds noise to the confidences, scaled by a temperature: `choice_temperature`, 4.5, times $1 - r$. In
# the first of eight steps that is 3.94, and almost any token may come first; in the last it is 0, and the most
# confident come first. Public solutions have $\gamma(r)$ in place of $r$, because one variable, `ratio`, holds both:
#
# ```python
# ratio = gamma(ratio)                                # from progress to the share still hidden
# temperature = choice_temperature * (1 - ratio)      # meant for progress
# ```
#
# It raises no error, and $1 - \gamma$ lies in $[0, 1]$ just as $1 - r$ does. **Predict** the temperature over eight steps, right
# and wrong. What becomes of the order of the tokens at the beginning, and at the end?
#
# To see it, take the kit's model and its confidence in each hidden token of the cat above, $\log p$ of the likeliest code.
# Without noise, one half of the hole is the surer half. Under noise some of it drops out. If all of it stays, the order is
# the model's; if about half of it stays, the order is as good as random.

# %%
from lab3.model.transformer import MASK_TOKEN_ID

z_indices = lab.tokenizer.encode(lab.data.masked[cat:cat + 1])[0].to(lab.device)
with torch.no_grad():
    hidden_ids = torch.where(mask.to(lab.device), MASK_TOKEN_ID, z_indices)
    logits = lab.shipped()(hidden_ids[None])[0, :, :MASK_TOKEN_ID]
log_p = logits.log_softmax(dim=-1).max(dim=-1).values.cpu()[mask]  # (n_hidden,)
half = n_hidden // 2
surer = log_p >= log_p.topk(half).values[-1]
gumbel = -torch.empty(1000, n_hidden).exponential_(generator=torch.Generator().manual_seed(0)).log()


def stays(temperature):
    """How much of the surer half is still the surer half under noise, mean of 1,000 draws."""
    return surer[(log_p + temperature * gumbel).topk(half).indices].float().mean().item()


steps = np.arange(1, total_iter + 1)
temperatures = {"right, every schedule": 4.5 * (1 - steps / total_iter)}
for name, gamma in schedules.items():
    temperatures[f"wrong, {name}"] = 4.5 * (1 - gamma(steps / total_iter))
panels = {
    "temperature": {label: (steps, values) for label, values in temperatures.items()},
    "surer half that stays": {
        label: (steps, [stays(value) for value in values])
        for label, values in temperatures.items()},
}
middle = total_iter - 2  # step 7 of 8
for label, values in temperatures.items():
    print(f"{label:20s} surer half that stays: step 1 {stays(values[0]):.0%},",
          f"step {middle + 1} {stays(values[middle]):.0%}")
plots.curves(panels, "step",
             "The wrong way round: sure of itself while it knows least, "
             "and at random at the end, when most tokens are revealed.")

# %% [markdown]
# Done right, the temperature falls from 3.9 to 0 whatever the schedule. The order is hardly better than chance at first
# (⟦right.*step 1 (\S+?),⟧ of the surer half stays) and follows the model more and more (⟦right.*step 7 (\S+)⟧ in step 7). Step 8
# takes all that is left, in whatever order. Done wrong, the temperature rises to 4.5. Cosine and square then begin almost without
# noise (⟦wrong, cosine.*step 1 (\S+?),⟧ and ⟦wrong, square.*step 1 (\S+?),⟧), so decodings of one picture all begin with nearly the
# same tokens, and this one blind first pass decides which. In step 7, where they reveal a fifth of the hole, the order is as good
# as random. You will measure what that does to real decodings in the next notebook.
#
# **Repair it.** Write a temperature that takes the step: that leaves no `ratio` to mistake for something
# else.

# %%
def temperature_at(t, total_iter, choice_temperature=4.5):
    """The temperature of step t (0, 1, ... total_iter - 1).

    It falls with progress and is 0 in the last step.
    """
    ### BEGIN SOLUTION
    progress = (t + 1) / total_iter
    return choice_temperature * (1 - progress)
    ### END SOLUTION

# %% tags=["nbval-check-output"]
falling = [temperature_at(t, 8) for t in range(8)]
assert falling[-1] == 0, f"the last step has no noise, got temperature {falling[-1]}"
assert all(one > other for one, other in zip(falling, falling[1:])), (
    "the temperature must fall from step to step")
assert abs(falling[0] - 4.5 * 7 / 8) < 1e-9, (
    "progress is counted after the step: 1/8 in the first of eight")
assert abs(temperature_at(3, 8, 7.0) - 3.5) < 1e-9, (
    "half of the way through, half of choice_temperature is left")
assert temperature_at(0, 1) == 0, "the only step is the last one"
print("temperatures:", falling)

# %% [markdown]
# ## What goes wrong: holes that do not close
#
# Two more plans that look harmless:
#
# * **rising**: $\gamma(1 - r)$. Someone took $\gamma$ for the share that is *known*.
# * **late**: $\gamma(t / \mathtt{total\_iter})$. The progress is that before the step, not after it.
#
# A token that has been revealed is not hidden again, so a step that asks for more hidden tokens than there are changes nothing.
# **Predict** what the masks will look like, and what is left when the last step is done.

# %%
gamma, t = gamma_func("cosine"), np.arange(total_iter)
plans = {
    "yours": gamma((t + 1) / total_iter),
    "rising": gamma(1 - (t + 1) / total_iter),
    "late": gamma(t / total_iter),
}

films = {}
for label, shares in plans.items():
    # what is known stays known
    hidden = np.minimum.accumulate([n_hidden, *np.floor(shares * n_hidden).astype(int)])
    films[label] = masks_after(mask, hidden)
    print(f"{label:8s} hidden {hidden.tolist()}")
plots.mask_steps(films, lab.data.masked[cat],
                 "Rising and late plans leave 18 tokens hidden when all steps are done.")

# %% [markdown]
# Rising reveals 79 of 97 tokens in the first step, when the model knows least, and nothing after it: seven more passes for
# nothing. Late wastes its first step, which hides all of the hole again, and stops one step short. Both still have 18 tokens
# hidden at the end. What ends up there depends on the code that follows: at best the last prediction, at worst the mask
# token, which is not a code at all. Some programs only appear to close the hole: in floating point $\cos(\pi / 2)$ is
# $6 \cdot 10^{-17}$, not 0, so rounding the count *up* keeps one token hidden.
#
# **Repair it.** The counts should close the hole whatever schedule they are given: progress after the step, rounded down; never
# more than before; and nothing after the last step, not even where $\gamma(1)$ says otherwise.

# %%
def counts_that_close(gamma, total_iter, n_hidden):
    """How many tokens stay hidden after each of total_iter steps.

    A list of ints: never rising, 0 at the end.
    """
    ### BEGIN SOLUTION
    counts, left = [], n_hidden
    for t in range(total_iter - 1):
        left = min(left, math.floor(gamma((t + 1) / total_iter) * n_hidden))
        counts.append(left)
    return [*counts, 0]
    ### END SOLUTION

# %% tags=["nbval-check-output"]
closing = {name: counts_that_close(gamma, 8, 85) for name, gamma in schedules.items()}
assert closing["linear"] == [74, 63, 53, 42, 31, 21, 10, 0], (
    f"linear, 85 tokens: got {closing['linear']}")
assert closing["cosine"] == [83, 78, 70, 60, 47, 32, 16, 0], (
    f"cosine, 85 tokens: got {closing['cosine']}")
rising = counts_that_close(lambda r: r, 8, 85)
assert rising[-1] == 0, f"a rising schedule leaves {rising[-1]} tokens hidden at the end"
assert all(one >= other for one, other in zip(rising, rising[1:])), (
    f"tokens are hidden again: {rising}")
assert counts_that_close(lambda r: 1 - 0.7 * r, 5, 10)[-1] == 0, (
    "nothing may stay hidden at the end, whatever gamma(1) is")
assert counts_that_close(gamma_func("cosine"), 1, 85) == [0], (
    "with one step all tokens are revealed in it")
print("every hole closes:", closing)

# %% [markdown]
# ## Explain
#
# Answer in two or three sentences each, in the cell below. No code. Your course may mark these.
#
# 1. A hole of 100 tokens, four steps: how many stay hidden after each step, for each of the three schedules?
# 2. 100 tokens, linear. How many tokens come from the last pass with `total_iter=8, sweet_spot=4`, and how many with `total_iter=4`?
# 3. Cosine and square reveal little at first. Why does that suit this model? Describe a hole for which it does not matter.

# %% [markdown]
# *Your answers:*
#
# 1. …
# 2. …
# 3. …

# %% [markdown]
# ## To think about
#
# * One student of the original course decoded the test set five times for each schedule and reported FIDs of 31.61 ± 0.47 for
#   linear, 31.43 ± 0.67 for cosine and 32.03 ± 0.71 for square; others report a best schedule from one decoding each. What
#   can you say about the three? How many decodings would you make before you call a difference of 0.2 real?
# * A convex schedule, such as $(1 - r)^2$, reveals most at first. Type it into the explorer. When could it be a good plan?
# * The smallest holes hide some 30 tokens. What do 50 steps do for them?
#
# ## Go further
#
# Two tasks beyond the lab, each with its own check. Neither is graded.
#
# **Passes that keep nothing** (*10 minutes, easy*). Where a hole is small, the count stays the same from one step to the next, and
# a pass through the transformer is wasted. Count such steps, by the counting rule alone.

# %%
def wasted_steps(gamma, total_iter, n_hidden):
    """How many of total_iter steps leave as many tokens hidden as they found: an int."""
    ### BEGIN SOLUTION
    hidden = hidden_counts(gamma, total_iter, n_hidden)
    return int((np.diff(hidden) == 0).sum())
    ### END SOLUTION

# %% tags=["nbval-check-output"]
practice(wasted_steps, ((lambda r: 1 - r, 8, 85), 0), ((lambda r: 1 - r, 8, 3), 5),
         ((lambda r: 1 - r**2, 50, 30), 20))

# %% [markdown]
# **The plan behind the counts** (*15 minutes, medium*). Go the other way. You are told how many tokens each step should
# reveal; find a schedule that does it: a $\gamma$ that passes through the right shares and is straight between them. (A
# convex schedule, such as one that reveals 40 tokens first, is possible as well.)

# %%
def gamma_of(revealed):
    """The schedule, r -> share still hidden, whose steps reveal these numbers of tokens.

    Straight between the steps; takes a float or an array.
    """
    ### BEGIN SOLUTION
    n_hidden, shares = sum(revealed), np.cumsum([0, *revealed])
    return lambda r: np.interp(r, np.linspace(0, 1, len(revealed) + 1), 1 - shares / n_hidden)
    ### END SOLUTION

# %% tags=["nbval-check-output"]
plans = [10, 10, 10, 10], [2, 5, 8, 25], [40, 25, 12, 8]
practice(gamma_of, *(((plan,), lambda gamma, plan=plan: "" if np.allclose(
    gamma(np.arange(5) / 4) * sum(plan), sum(plan) - np.cumsum([0, *plan])) else
    f"at r = 0, 1/4, ... 1 it leaves {gamma(np.arange(5) / 4) * sum(plan)} hidden, for {plan}")
    for plan in plans))

# %% [markdown]
# Next: [05 Iterative decoding](05_iterative_decoding.ipynb), where your schedule meets your transformer.
