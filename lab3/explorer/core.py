"""What the schedule explorer computes: a schedule's steps, and one hole decoded step by step.

In: settings, a picture, a hole; schedules, decodings and models to choose from. Out: numbers, a `Trace`, and a figure
to show without widgets. `explorer.widgets` calls these functions with the values of its controls and shows the
results. Where nothing can decode, each token's confidence is drawn at random, once: then the order
is the same for all schedules, and only their pace differs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
import torch

from lab3.common.files import InputError
from lab3.common.machine import autocast
from lab3.common.paths import SHIPPED, SOLUTIONS, WEIGHTS
from lab3.common.plots import COLOURS, bare, figure, half_frame, mask_picture, show
from lab3.data.cats import Cats
from lab3.data.masks import hidden_tokens, paint, paste
from lab3.decoding.cached import for_decoding
from lab3.decoding.generate import CONFIDENCE, in_order, require_called
from lab3.decoding.mistakes import ATTENTION, GAMMA, LOOP, MISTAKES, STEP
from lab3.exercises.answers import load_answers
from lab3.exercises.fallbacks import TorchAttention
from lab3.exercises.table import DECODING
from lab3.explorer.formula import FORMULAS, POINTS, drawn, heights_of, parse
from lab3.metrics.distance import psnr
from lab3.metrics.truth import Named, identify
from lab3.model.transformer import MASK_TOKEN_ID, load_transformer
from lab3.presets import CODES, SCHEDULES

TOTAL_ITER, MOST_STEPS = 8, 21
IN_A_ROW = 11  # masks in one row of the figure
STEPWISE = ("inpainting", "iterative_decode")  # the answers that decode with a schedule given
TYPED, DRAWN = "typed formula", "drawn curve"
KITS, YOURS = "the kit's", "yours"
NO_MISTAKE = "none"
OTHERS = 3  # pictures decoded beside the one shown, where a mistake concerns a whole batch


def hidden_after(gamma, total_iter, sweet_spot, n_hidden):
    """How many tokens of a hole are hidden before the first step and after each one.

    After step t (from 0) it is `floor(gamma(r) * n_hidden)` with r = (t + 1) / total_iter, at least one fewer than
    before, and none at r = 1.

    Args:
        gamma: the schedule, a function of progress r in [0, 1].
        total_iter: how many steps the schedule has.
        sweet_spot: how many of them are made.
        n_hidden: how many tokens the hole hides.

    Returns:
        sweet_spot + 1 ints, the first of them n_hidden. The last is what takes its last prediction all at once.

    Raises:
        InputError: not 1 <= sweet_spot <= total_iter, or a schedule that gives no finite number.
    """
    if not 1 <= sweet_spot <= total_iter:
        raise InputError(f"sweet_spot must lie in 1 ... total_iter ({total_iter}), not {sweet_spot}.")
    hidden = [n_hidden]
    for t in range(sweet_spot):
        share = float(gamma((t + 1) / total_iter)) if t + 1 < total_iter else 0.0
        if not math.isfinite(share):
            raise InputError(f"the schedule gives {share} at r = {(t + 1) / total_iter:.3g}: not a finite number.")
        hidden.append(max(0, min(math.floor(share * n_hidden), hidden[-1] - 1)))
    return hidden


def masks_after(mask, hidden, seed=0):
    """Which tokens are hidden where confidence is random: in each mask the least confident of the hole.

    Args:
        mask: (256,) bool, True where the hole hides a token.
        hidden: how many are hidden in each mask, such as `hidden_after` gives.
        seed: an int; a seed gives each token its confidence, so all schedules reveal tokens in one order.

    Returns:
        (len(hidden), 256) bool, True means hidden.
    """
    confidence = torch.rand(len(mask), generator=torch.Generator().manual_seed(seed))
    rank = confidence.masked_fill(~mask, torch.inf).argsort().argsort()  # 0 is the least sure; known tokens come last
    return mask & (rank < torch.tensor(hidden)[:, None])


def draw(gamma, name, total_iter, sweet_spot, picture, hole):
    """The explorer's figure: gamma with a marker a step, the tokens that each step reveals, the mask after each step.

    Args:
        gamma: the schedule, a function of progress, also of an array of it.
        name: what to call it.
        total_iter, sweet_spot: as `hidden_after` takes them.
        picture: (3, 64, 64) uint8, the masked picture.
        hole: (64, 64) bool, True in the hole.
    """
    mask = hidden_tokens(hole[None])[0]
    hidden = hidden_after(gamma, total_iter, sweet_spot, int(mask.sum()))
    rows = math.ceil(len(hidden) / IN_A_ROW)
    page = figure(10.5, 2.9 + 1.15 * rows,
                  "Dark: hidden. Confidences are random here, the same for all schedules.")
    above, below = page.subfigures(2, 1, height_ratios=(2.9, 1.15 * rows))
    cat, curve, bars = above.subplots(1, 3, width_ratios=(0.8, 1, 1.3))
    show(cat, picture, f"{hidden[0]} of {len(mask)} tokens hidden")

    progress, steps = np.linspace(0, 1, 200), np.arange(1, total_iter + 1) / total_iter
    made, left = steps[:sweet_spot], steps[sweet_spot:]
    curve.plot(progress, gamma(progress), color=COLOURS["blue"])
    curve.plot(made, gamma(made), "o", color=COLOURS["blue"], markersize=5)
    curve.plot(left, gamma(left), "o", color=COLOURS["blue"], markersize=5, markerfacecolor="white")
    curve.set_title(name, fontsize=9)
    curve.set(xlabel="progress r", ylabel="gamma(r)")

    numbers, revealed = range(1, sweet_spot + 1), -np.diff(hidden)
    bars.bar(numbers, revealed, color=COLOURS["blue"], label="revealed by the step")
    if hidden[-1]:
        bars.bar(sweet_spot, hidden[-1], bottom=revealed[-1], color=COLOURS["orange"], label="taken all at once")
    bars.set_xlim(0.4, total_iter + 0.6)
    bars.xaxis.get_major_locator().set_params(integer=True)
    bars.set_title(f"{hidden[0]} tokens in {sweet_spot} of {total_iter} steps", fontsize=9)
    bars.set(xlabel="step", ylabel="tokens")
    bars.legend(fontsize=8, frameon=False)
    for axes in (curve, bars):
        half_frame(axes)

    places = list(below.subplots(rows, IN_A_ROW, squeeze=False).flat)
    for step, (axes, masked) in enumerate(zip(places, masks_after(mask, hidden))):
        show(axes, mask_picture(masked), f"step {step}: {hidden[step]}" if step else f"hole: {hidden[0]}")
    for axes in places[len(hidden):]:
        bare(axes)
    return page


@dataclass(frozen=True)
class Setting:
    """What decides a decoding. `formula` counts where the schedule is `TYPED`, `heights` where it is `DRAWN`."""

    schedule: str
    total_iter: int = TOTAL_ITER
    sweet_spot: int = TOTAL_ITER
    choice_temperature: float = 4.5
    sampling: str = "categorical"
    order: str = CONFIDENCE
    seed: int = 0
    decoding: str = KITS
    model: str = KITS
    formula: str = ""
    heights: tuple = ()
    exact: bool = False  # every token computed in every step (see `lab3.decoding.cached`)
    mistake: str = NO_MISTAKE  # a name of `MISTAKES`


@dataclass(frozen=True)
class Choices:
    """What there is to choose from.

    Attributes:
        data: with `.test`, `.holes` and `.masked`.
        tokenizer: a `Tokenizer`.
        schedules: a dict, name -> gamma.
        decodings: a dict, name -> a namespace with `iterative_decode`; empty where there is none.
        models: a dict, name -> a function that gives a transformer.
        notes: sentences on what is not among them, and why.
        folders: a dict, name of a decoding -> the folder of its answers, which are run again for another order.
    """

    data: object
    tokenizer: object
    schedules: dict
    decodings: dict
    models: dict
    notes: tuple = ()
    folders: dict = field(default_factory=dict)

    def answers(self, setting, kept=()):
        """The answers that decode: those chosen, changed where an order, a choice or a mistake asks for it.

        Raises:
            InputError: the answers' files cannot be run.
        """
        step, loop = (self._mistaken(setting, part) for part in (STEP, LOOP))
        if setting.order == CONFIDENCE and not kept and not step and not loop:
            return self.decodings[setting.decoding]
        changed = {LOOP: loop} if loop else {}
        if setting.order != CONFIDENCE or kept or step:
            changed[STEP] = lambda answer: choosing(in_order(step(answer) if step else answer, setting.order), kept)
        return load_answers(self.folders[setting.decoding], STEPWISE, changed)

    def gamma(self, setting):
        """The schedule of a setting. Raises `InputError` for a formula or a curve that is none."""
        if setting.schedule == TYPED:
            gamma = parse(setting.formula)
        else:
            gamma = drawn(setting.heights) if setting.schedule == DRAWN else self.schedules[setting.schedule]
        wrong = self._mistaken(setting, GAMMA)
        return wrong(gamma) if wrong else gamma

    def model(self, setting):
        """The transformer of a setting."""
        load, wrong = self.models[setting.model], self._mistaken(setting, ATTENTION)
        return load(wrong(TorchAttention)) if wrong else load()

    def _mistaken(self, setting, part):
        """What makes a part of the decoding wrong; None where the setting's mistake concerns another."""
        mistake = MISTAKES.get(setting.mistake)
        return partial(mistake.change, tokenizer=self.tokenizer) if mistake and mistake.part == part else None


@dataclass(frozen=True)
class Trace:
    """A hole decoded in S steps, or the pace of one that nothing decoded: then all but the first three are None.

    Attributes:
        original, masked: (3, 64, 64) uint8.
        masks: (S + 1, 256) bool, hidden before the first step and after each one.
        tokens: (S, 256) long, what each step predicts.
        confidence: (S, 256), log p of the token that a step predicts at a hidden place; NaN where the token is known,
            and in a step for which the model was not asked.
        pictures: (S, 3, 64, 64) uint8, the tokens decoded.
        pasted: (3, 64, 64) uint8, the last picture with the known pixels put back.
        same: how many hidden tokens end as the original's; None where every token is hidden.
        psnr_hole: dB, of the last picture in the hole; None where every token is hidden.
        truth: `Named`, of the last picture, `pasted` and the original; None where pictures have no known truth.
    """

    original: torch.Tensor
    masked: torch.Tensor
    masks: torch.Tensor
    tokens: torch.Tensor | None = None
    confidence: torch.Tensor | None = None
    pictures: torch.Tensor | None = None
    pasted: torch.Tensor | None = None
    same: int | None = None
    psnr_hole: float | None = None
    truth: Named | None = None

    @property
    def from_nothing(self):
        """Whether every token was hidden: then the original has no part in what is drawn."""
        return bool(self.masks[0].all())


class Dropped(Exception):
    """The result of a decoding is no longer wanted."""


@dataclass
class _Watched:
    """A transformer that notes what it was asked and gave, and stops a decoding that nobody waits for."""

    transformer: Callable
    unwanted: Callable
    asked: list

    def __call__(self, z_indices):
        if self.unwanted():
            raise Dropped
        logits = self.transformer(z_indices)
        self.asked.append((z_indices, logits))
        return logits


def choosing(inpainting, kept):
    """An `inpainting` that predicts what the given one predicts, and in the first steps keeps tokens chosen by hand.

    Args:
        inpainting: an answer.
        kept: for each of these steps (256,) bool, the tokens that it keeps.
    """
    def chosen(transformer, z_indices, mask, *args, **options):
        z_predict, next_mask = inpainting(transformer, z_indices, mask, *args, **options)
        if chosen.calls < len(kept):
            next_mask = mask & ~kept[chosen.calls].to(mask.device)
        chosen.calls += 1
        return z_predict, next_mask

    chosen.calls = 0
    return chosen


@torch.no_grad()
def trace(choices, setting, picture, hole, unwanted=lambda: False, kept=()):
    """Decode one picture's hole.

    Args:
        choices: `Choices`.
        setting: a `Setting`.
        picture: (3, 64, 64) uint8.
        hole: (64, 64) bool, True in the hole.
        unwanted: is called before each step; the decoding ends where it gives True.
        kept: tokens chosen by hand in the first steps, as `choosing` takes them.

    Returns:
        A `Trace`.

    Raises:
        InputError: an empty hole, an impossible setting, or a decoding that gives something else than it should.
        Dropped: it was no longer wanted.
    """
    mask = hidden_tokens(hole[None])
    if not mask.any():
        raise InputError("the hole is empty: draw one, or choose another.")
    gamma, masked = choices.gamma(setting), paint(picture[None], hole[None])
    if setting.decoding not in choices.decodings:
        hidden = hidden_after(gamma, setting.total_iter, setting.sweet_spot, int(mask.sum()))
        return Trace(picture, masked[0], masks_after(mask[0], hidden, setting.seed))
    device = choices.tokenizer.codebook.device
    watched, rows = _Watched(for_decoding(choices.model(setting), setting.exact), unwanted, []), masked
    if setting.mistake in MISTAKES and MISTAKES[setting.mistake].over_rows:
        rows = torch.cat([masked, choices.data.masked[:OTHERS]])
        mask = torch.cat([mask, mask.expand(OTHERS, -1) if mask.all() else hidden_tokens(choices.data.holes[:OTHERS])])
    z_indices = choices.tokenizer.encode(rows).to(device)  # in float32, as `fill` encodes
    answers = choices.answers(setting, kept)
    with torch.no_grad(), autocast(device):
        z_final, history = answers.iterative_decode(
            watched, z_indices, mask.to(device), gamma=gamma, total_iter=setting.total_iter,
            sweet_spot=setting.sweet_spot, choice_temperature=setting.choice_temperature,
            mask_token_id=MASK_TOKEN_ID, sampling=setting.sampling,
            generator=torch.Generator(device).manual_seed(setting.seed))
    require_called(answers)
    _check(z_final, history, setting.sweet_spot, mask.shape)
    mask = mask[:1]  # of the picture that is shown
    masks = torch.cat([mask] + [next_mask[:1].cpu() for _, next_mask in history])
    tokens = torch.cat([z_predict[:1].cpu() for z_predict, _ in history[:-1]] + [z_final[:1].cpu()])
    if unwanted():
        raise Dropped
    pictures = choices.tokenizer.decode(tokens)
    pasted, same, psnr_hole = paste(pictures[-1:], masked, hole[None])[0], None, None
    if not mask.all():
        same = int((choices.tokenizer.encode(picture[None]).cpu()[0] == tokens[-1])[mask[0]].sum())
        psnr_hole = psnr(pictures[-1:], picture[None], hole[None])
    known = isinstance(choices.data, Cats)
    return Trace(
        picture, masked[0], masks, tokens, confidences(watched.asked, tokens, masks), pictures, pasted, same, psnr_hole,
        identify(torch.stack([pictures[-1], pasted, picture])) if known else None)


def _check(z_final, history, steps, shape):
    """Raise `InputError` where an `iterative_decode` gave something else than its contract says."""
    if not isinstance(history, (list, tuple)) or len(history) != steps:
        given = f"{len(history)} entries" if isinstance(history, (list, tuple)) else type(history).__name__
        raise InputError(f"the decoding gave a history of {given}, not a list with an entry for each of {steps} steps.")
    wanted = [("z_final", z_final, torch.long)]
    for entry in history:
        if not isinstance(entry, (list, tuple)) or len(entry) != 2:
            raise InputError("the decoding gave a history whose entries are no pairs (z_predict, next_mask).")
        wanted += [("z_predict", entry[0], torch.long), ("next_mask", entry[1], torch.bool)]
    for name, tensor, kind in wanted:
        if not isinstance(tensor, torch.Tensor):
            raise InputError(f"the decoding gave a {name} that is no tensor, but {type(tensor).__name__}.")
        if tensor.shape != shape or tensor.dtype != kind:
            raise InputError(f"the decoding gave a {name} that is {tensor.dtype} {tuple(tensor.shape)}, "
                             f"not {kind} {tuple(shape)}.")
    if not ((z_final >= 0) & (z_final < CODES)).all():
        raise InputError(f"the decoding ended with tokens that are no codes (0 ... {CODES - 1}): "
                         "is something still hidden?")


def confidences(asked, tokens, masks):
    """How sure each step was of the tokens that it predicted: (S, 256) log p, NaN where known or not asked.

    Args:
        asked: what the transformer was asked and gave, a list of pairs (1, 256) and (1, 256, V + 1). A step's question
            is the first one since the step before that hides what is hidden then.
        tokens: (S, 256) long.
        masks: (S + 1, 256) bool.
    """
    found, waiting = torch.full(tokens.shape, torch.nan), list(asked)
    for step, (mask, chosen) in enumerate(zip(masks, tokens)):
        place = next((i for i, (z_indices, _) in enumerate(waiting)
                      if torch.equal(z_indices[0].cpu() == MASK_TOKEN_ID, mask)), None)
        if place is not None and mask.any():
            log_p = waiting[place][1][0, :, :CODES].float().cpu().log_softmax(dim=-1)
            found[step] = log_p.gather(1, chosen[:, None])[:, 0].where(mask, torch.nan)
            del waiting[:place + 1]
    return found


def unlike_the_rule(trace, gamma, setting):
    """A sentence where a decoding hides other numbers of tokens than the counting rule of `hidden_after`; else None."""
    counts = trace.masks.sum(dim=1).tolist()
    hidden = hidden_after(gamma, setting.total_iter, setting.sweet_spot, counts[0])
    for step, (count, rule) in enumerate(zip(counts, hidden)):
        if count != rule:
            return f"After step {step} this decoding leaves {count} tokens hidden; by the counting rule it is {rule}."
    return None


def choices_of(lab, others=None):
    """What a notebook has to choose from: the kit's schedules and decoding, and the student's own as they exist.

    Args:
        lab: what `lab3.start` gives.
        others: a dict, name -> gamma, more schedules.
    """
    unwritten = {name for name, report in getattr(lab, "reports", {}).items() if not report.written}
    written = {name: value for name, value in vars(lab.answers).items() if name not in {*lab.missing, *unwritten}}
    places = {KITS: SHIPPED / WEIGHTS, YOURS: lab.work / WEIGHTS}
    models = {owner: cache(partial(load_model, path, lab.device)) for owner, path in places.items() if path.is_file()}
    kits = None
    if all((SOLUTIONS / f"{name}.py").is_file() for name in DECODING):  # not in what students get
        kits = load_answers(SOLUTIONS, DECODING)
    schedules, decodings, notes = {}, {}, []
    for owner, answers in ((YOURS, written), (KITS, vars(kits) if kits else {})):
        if "gamma_func" in answers:
            schedules |= _schedules(answers["gamma_func"], "" if owner == KITS else f"{owner}: ", notes)
        if set(STEPWISE) <= answers.keys():
            decodings[owner] = lab.answers if owner == YOURS else kits
    if not schedules:
        notes.append("Linear, cosine and square come from gamma_func, the exercise of notebook 04: write it first.")
    if not decodings:
        notes.append("Nothing can decode yet: inpainting and iterative_decode are the exercises of notebook 05. Until "
                     "then masks alone are shown, in an order drawn at random.")
    schedules |= {name: parse(text) for name, text in FORMULAS.items()} | (others or {})
    return Choices(lab.data, lab.tokenizer, schedules, decodings, models, tuple(notes),
                   {KITS: SOLUTIONS, YOURS: lab.work})


def load_model(path, device, attention=TorchAttention):
    """A transformer, with PyTorch's attention or another."""
    return load_transformer(path, attention).to(device)


def _schedules(gamma_func, prefix, notes):
    """The schedules of a `gamma_func`, by name; one that it does not give is left out, and a note says why."""
    found = {}
    for name in SCHEDULES:
        try:
            found[prefix + name] = gamma_func(name)
        except Exception as error:  # of a student's function: anything can come
            notes.append(f"{prefix}{name} is left out: gamma_func({name!r}) gives {type(error).__name__}: {error}")
    return found


def steps_of(gamma, total_iter, sweet_spot, n_hidden):
    """What the chart shows of a schedule.

    Returns:
        A dict: `line`, pairs (r, gamma), and `marks`, one a step: `step`, `r`, `g`, whether it is `made`, how many
        tokens are `hidden` after it and `revealed` by it, and `rest`, what is taken all at once as the decoding stops.

    Raises:
        InputError: as `hidden_after`.
    """
    hidden, heights = hidden_after(gamma, total_iter, sweet_spot, n_hidden), heights_of(gamma)
    if not np.isfinite(heights).all():
        bad = np.flatnonzero(~np.isfinite(heights))[0]
        raise InputError(f"the schedule gives {heights[bad]} at r = {POINTS[bad]:.3g}: not a finite number.")
    marks = []
    for step in range(1, total_iter + 1):
        r, made = step / total_iter, step <= sweet_spot
        marks.append({"step": step, "r": r, "g": float(gamma(r)), "made": made, "hidden": hidden[step] if made else 0,
                      "revealed": hidden[step - 1] - hidden[step] if made else 0,
                      "rest": hidden[step] if step == sweet_spot else 0})
    line = zip(POINTS.tolist(), heights.tolist())
    return {"line": [list(point) for point in line], "marks": marks}
