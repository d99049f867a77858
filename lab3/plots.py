"""The report's figures.

In: pictures, masks, curves. Out: matplotlib figures, readable on light and dark pages, each with a line that says what
to see.
"""

import math

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart.
COLOURS = {"blue": "#0072B2", "orange": "#E69F00", "green": "#009E73", "red": "#D55E00", "grey": "#666666"}
HIDDEN, KNOWN = (0.35, 0.35, 0.38), (0.93, 0.93, 0.90)


def figure(width, height):
    """An empty figure on white paper, sizes in inches."""
    page = Figure(figsize=(width, height), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(page)
    return page


def show(axes, picture, title=None):
    """Draw one picture, (3, H, W) uint8, pixel by pixel."""
    axes.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
    bare(axes, title)


def bare(axes, title=None):
    """Take ticks and frame away."""
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    if title:
        axes.set_title(title, fontsize=9)


def mask_picture(mask):
    """A mask in the latent domain, (256,) bool, as a (3, 16, 16) uint8 picture: dark where hidden."""
    side = math.isqrt(len(mask))
    colours = torch.where(mask.view(1, side, side), torch.tensor(HIDDEN)[:, None, None],
                          torch.tensor(KNOWN)[:, None, None])
    return (colours * 255).to(torch.uint8)


def comparison(rows, caption):
    """Rows of pictures under one another, for the eye to compare.

    Args:
        rows: a dict, label -> (N, 3, H, W) uint8, all of one N.
        caption: what to see.
    """
    n = len(next(iter(rows.values())))
    page = figure(1.05 * n + 0.9, 1.12 * len(rows) + 0.4)
    axes = page.subplots(len(rows), n, squeeze=False)
    for line, (label, pictures) in zip(axes, rows.items()):
        for place, picture in zip(line, pictures):
            show(place, picture)
        line[0].set_ylabel(label, fontsize=9)
    page.supxlabel(caption, fontsize=9)
    return page


def decoding_steps(schedules, originals, caption):
    """Masks in the latent domain and predicted pictures, step by step, one pair of rows a schedule.

    Args:
        schedules: a dict, name -> (masks (S + 1, 256) bool, predictions (S, 3, 64, 64) uint8).
        originals: (3, 64, 64) uint8 masked picture, and the original or None.
        caption: what to see.
    """
    masked, original = originals
    steps = len(next(iter(schedules.values()))[1])
    page = figure(1.05 * (steps + 2) + 0.9, 2.3 * len(schedules) + 0.5)
    axes = page.subplots(2 * len(schedules), steps + 2, squeeze=False)
    for index, (name, (masks, predictions)) in enumerate(schedules.items()):
        above, below = axes[2 * index], axes[2 * index + 1]
        show(above[0], mask_picture(masks[0]), f"{int(masks[0].sum())} hidden")
        show(below[0], masked, "masked")
        for step in range(steps):
            show(above[step + 1], mask_picture(masks[step + 1]), f"{int(masks[step + 1].sum())}")
            show(below[step + 1], predictions[step], f"step {step + 1}")
        bare(above[-1])
        if original is None:
            bare(below[-1])
        else:
            show(below[-1], original, "original")
        above[0].set_ylabel(f"{name}\nmask", fontsize=9)
        below[0].set_ylabel("prediction", fontsize=9)
    page.supxlabel(caption, fontsize=9)
    return page


def training_curve(metrics, caption):
    """Training loss by part, validation loss by epoch, and the learning rate, from a run's metrics."""
    page = figure(7.0, 3.2)
    loss, rate = page.subplots(1, 2, width_ratios=(3, 2))
    loss.plot([row["epoch"] for row in metrics], [row["train_loss"] for row in metrics],
              color=COLOURS["blue"], label="training, by part")
    checked = [row for row in metrics if "val_loss" in row]
    loss.plot([row["epoch"] for row in checked], [row["val_loss"] for row in checked], "o-",
              color=COLOURS["orange"], label="validation")
    loss.axhline(math.log(1024), color=COLOURS["grey"], linestyle=":", label="guessing, ln 1024")
    loss.set_xlabel("epoch")
    loss.set_ylabel("loss on hidden tokens (nats)")
    loss.legend(fontsize=8, frameon=False)
    rate.plot([row["epoch"] for row in metrics], [row["lr"] for row in metrics], color=COLOURS["green"])
    rate.set_xlabel("epoch")
    rate.set_ylabel("learning rate")
    for axes in (loss, rate):
        axes.spines[["top", "right"]].set_visible(False)
    page.supxlabel(caption, fontsize=9)
    return page


def schedule_curves(schedules, total_iter, caption):
    """Gamma over progress, with a marker a step.

    Args:
        schedules: a dict, name -> gamma, a function of an array in [0, 1].
        total_iter: how many steps.
        caption: what to see.
    """
    page = figure(5.2, 3.2)
    axes = page.subplots()
    progress, steps = np.linspace(0, 1, 200), np.arange(1, total_iter + 1) / total_iter
    for (name, gamma), colour, marker in zip(schedules.items(), COLOURS.values(), "os^Dv"):
        axes.plot(progress, gamma(progress), color=colour)
        axes.plot(steps, gamma(steps), marker, color=colour, label=name, markersize=5)
    axes.set_xlabel("progress r = (t + 1) / total_iter")
    axes.set_ylabel("gamma(r): share still hidden")
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    page.supxlabel(caption, fontsize=9)
    return page


def distance_bars(rows, floor, holes, name, caption):
    """Distances with their spread, between the two anchors.

    Args:
        rows: a dict, label -> list of distances, one a seed.
        floor, holes: the anchors.
        name: "FID" or "FD-Lite0".
        caption: what to see.
    """
    page = figure(6.0, 0.55 * len(rows) + 1.5)
    axes = page.subplots()
    for place, values in enumerate(rows.values()):
        axes.barh(place, np.mean(values), color=COLOURS["blue"], height=0.55, alpha=0.75)
        axes.plot(values, [place] * len(values), "o", color="black", markersize=3)
        axes.text(np.mean(values), place, f"  {np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}", va="center",
                  fontsize=8)
    axes.axvline(floor, color=COLOURS["green"], label=f"floor: reconstructions, {floor:.2f}")
    axes.axvline(holes, color=COLOURS["red"], label=f"holes unfilled, {holes:.2f}")
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.set_xlabel(f"{name} to the originals (lower is better)")
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.25), ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    page.supxlabel(caption, fontsize=9)
    return page
