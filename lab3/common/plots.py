"""The report's figures.

In: pictures, masks, curves. Out: matplotlib figures, readable on light and dark pages. Each has a caption that says
what to see: not drawn, but its label, which `as_html` writes below it as text.
"""

import base64
import html
import io
import math
import textwrap

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

# Okabe and Ito's colours, which colour-blind readers tell apart.
COLOURS = {"blue": "#0072B2", "orange": "#E69F00", "green": "#009E73", "red": "#D55E00", "grey": "#666666"}
HIDDEN, KNOWN = (0.35, 0.35, 0.38), (0.93, 0.93, 0.90)


def figure(width, height, caption=None):
    """An empty figure on white paper, sizes in inches; its caption is its label."""
    page = Figure(figsize=(width, height), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(page)
    page.set_label(caption or "")
    return page


def as_html(page):
    """A figure as HTML, with its caption as text and with an alternative text; None without a caption."""
    if not page.get_label() or not page.axes:
        return None
    return (f'<figure style="margin: 0">\n{tag(png(page, tight=True), in_words(page))}\n'
            f"<figcaption>{html.escape(page.get_label())}</figcaption>\n</figure>")


def is_figure(output):
    """Whether an output of a notebook's cell is what `as_html` gives."""
    return "<figure" in output.get("data", {}).get("text/html", "")


def in_words(page):
    """What a figure consists of, for those who cannot see it: all titles, and each label of an axis or a line once."""
    words = []
    for axes in page.axes:
        labels = axes.get_ylabel(), axes.get_xlabel(), *axes.get_legend_handles_labels()[1]
        words += filter(None, [axes.get_title(), *(one for one in labels if one not in words)])
    return textwrap.shorten(f"Figure: {'; '.join(words)}" if words else page.get_label(), 500, placeholder=" …")


def png(page, dpi=None, colours=None, tight=False):
    """A figure as the bytes of a PNG, `dpi` pixels an inch (None: the figure's own), in `colours` colours or all.

    `tight` cuts off its empty edges.
    """
    data = io.BytesIO()
    page.savefig(data, format="png", dpi=dpi or page.dpi, bbox_inches="tight" if tight else None, pad_inches=0.05)
    return data.getvalue() if colours is None else with_colours(data.getvalue(), colours)


def with_colours(png, colours):
    """The bytes of a PNG -> those of the same picture in at most 256 colours: a third of the size or less."""
    small = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(
        small, "PNG", optimize=True)
    return small.getvalue()


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


def half_frame(axes):
    """Leave a chart its left and lower edge."""
    axes.spines[["top", "right"]].set_visible(False)


def mask_picture(mask):
    """A mask in the latent domain, (256,) bool, as a (3, 16, 16) uint8 picture: dark where hidden."""
    side = math.isqrt(len(mask))
    colours = torch.where(mask.view(1, side, side), torch.tensor(HIDDEN)[:, None, None],
                          torch.tensor(KNOWN)[:, None, None])
    return (colours * 255).to(torch.uint8)


def token_frame(token, size):
    """A frame around one of 16 x 16 tokens, to `add_patch` to a picture that is `size` pixels wide."""
    cell = size / 16
    corner = (token % 16 * cell - 0.5, token // 16 * cell - 0.5)
    return Rectangle(corner, cell, cell, fill=False, edgecolor=COLOURS["orange"], linewidth=1.5)


def comparison(rows, caption):
    """Rows of pictures under one another, for the eye to compare.

    Args:
        rows: a dict, label -> (N, 3, H, W) uint8, all of one N.
        caption: what to see.
    """
    n = len(next(iter(rows.values())))
    page = figure(1.05 * n + 0.9, 1.12 * len(rows) + 0.4, caption)
    axes = page.subplots(len(rows), n, squeeze=False)
    for line, (label, pictures) in zip(axes, rows.items()):
        for place, picture in zip(line, pictures):
            show(place, picture)
        line[0].set_ylabel(label, fontsize=9)
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
    page = figure(1.05 * (steps + 2) + 0.9, 2.3 * len(schedules) + 0.5, caption)
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
    return page


def training_curve(metrics, caption):
    """Training loss by part, validation loss and, where they are known, bits and the learning rate: a run's metrics."""
    measured = [row for row in metrics if "val_bits" in row]
    page = figure(9.2 if measured else 7.0, 3.2, caption)
    loss, rate, *bits = page.subplots(1, 3 if measured else 2, width_ratios=(3, 2, 2) if measured else (3, 2))
    loss.plot([row["epoch"] for row in metrics], [row["train_loss"] for row in metrics],
              color=COLOURS["blue"], label="training, by part")
    checked = [row for row in metrics if "val_loss" in row]
    loss.plot([row["epoch"] for row in checked], [row["val_loss"] for row in checked], "o-",
              color=COLOURS["orange"], label="validation")
    loss.axhline(math.log(1024), color=COLOURS["grey"], linestyle=":", label="guessing, ln 1024")
    loss.set(xlabel="epoch", ylabel="loss on hidden tokens (nats)")
    loss.legend(fontsize=8, frameon=False)
    rated = [row for row in metrics if "lr" in row]
    rate.plot([row["epoch"] for row in rated], [row["lr"] for row in rated], color=COLOURS["green"])
    rate.set(xlabel="epoch", ylabel="learning rate")
    for axes in bits:
        axes.errorbar([row["epoch"] for row in measured], [row["val_bits"] for row in measured],
                      [row["val_bits_error"] for row in measured], fmt="o-", color=COLOURS["orange"], capsize=3)
        axes.set(xlabel="epoch", ylabel="bits a picture (validation)")
        axes.set_ylim(bottom=0)
    for axes in (loss, rate, *bits):
        half_frame(axes)
    return page


def schedule_curves(schedules, total_iter, caption):
    """Gamma over progress, with a marker a step.

    Args:
        schedules: a dict, name -> gamma, a function of an array in [0, 1].
        total_iter: how many steps.
        caption: what to see.
    """
    page = figure(5.2, 3.2, caption)
    axes = page.subplots()
    progress, steps = np.linspace(0, 1, 200), np.arange(1, total_iter + 1) / total_iter
    for (name, gamma), colour, marker in zip(schedules.items(), COLOURS.values(), "os^Dv"):
        axes.plot(progress, gamma(progress), color=colour)
        axes.plot(steps, gamma(steps), marker, color=colour, label=name, markersize=5)
    axes.set(xlabel="progress r = (t + 1) / total_iter", ylabel="gamma(r): share still hidden")
    axes.legend(fontsize=8, frameon=False)
    half_frame(axes)
    return page


def distance_bars(rows, floor, holes, name, caption):
    """Distances with their spread, between the two anchors.

    Args:
        rows: a dict, label -> list of distances, one a seed.
        floor, holes: the anchors.
        name: "FID" or "FD-Lite0".
        caption: what to see.
    """
    page = figure(6.0, 0.55 * len(rows) + 1.5, caption)
    axes = page.subplots()
    for place, values in enumerate(rows.values()):
        axes.barh(place, np.mean(values), color=COLOURS["blue"], height=0.55, alpha=0.75)
        axes.plot(values, [place] * len(values), "o", color="black", markersize=3)
        axes.text(1.02, place, f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}", va="center", fontsize=8,
                  transform=axes.get_yaxis_transform())  # beside the axes, where no line crosses it
    axes.axvline(floor, color=COLOURS["green"], label=f"floor: reconstructions, {floor:.2f}")
    axes.axvline(holes, color=COLOURS["red"], label=f"holes unfilled, {holes:.2f}")
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.set_xlabel(f"{name} to the originals (lower is better)")
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.25), ncols=2)
    half_frame(axes)
    return page


def shares(panels, expected, labels, caption):
    """Drawn shares as bars beside expected ones as dots, a panel each.

    Args:
        panels: a dict, title -> (n,) shares.
        expected: a dict, title -> (n,) shares.
        labels: n names.
        caption: what to see.
    """
    page = figure(2.4 * len(panels) + 0.6, 2.6, caption)
    for axes, (title, drawn) in zip(page.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items()):
        axes.bar(range(len(labels)), drawn, color=COLOURS["blue"], alpha=0.75, label="drawn")
        axes.plot(range(len(labels)), expected[title], "o", color=COLOURS["orange"], label="expected")
        axes.set_title(title, fontsize=9)
        axes.set_xticks(range(len(labels)), labels)
        half_frame(axes)
    page.axes[0].set_ylabel("share of draws")
    page.axes[-1].legend(fontsize=8, frameon=False)
    return page


def one_step(masked, likely, pictures, caption):
    """A step of decoding: the masked picture, how sure the model is where a token is hidden, and what comes of it.

    Args:
        masked: (3, 64, 64) uint8.
        likely: (256,) probabilities, NaN where the token is known.
        pictures: a dict, title -> (3, H, W) uint8 picture or (256,) bool mask.
        caption: what to see.
    """
    page = figure(1.5 * (len(pictures) + 2) + 0.5, 2.2, caption)
    axes = page.subplots(1, len(pictures) + 2)
    show(axes[0], masked, "masked")
    drawn = axes[1].imshow(likely.view(16, 16), cmap="cividis", vmin=0, vmax=1)
    bare(axes[1], "p of the likeliest code")
    page.colorbar(drawn, ax=axes[1], shrink=0.6)
    for place, (title, picture) in zip(axes[2:], pictures.items()):
        show(place, mask_picture(picture) if picture.dim() == 1 else picture, title)
    return page


def lines(panels, x_label, caption, x=None):
    """Curves over steps or settings, a panel for each thing measured.

    Args:
        panels: a dict, what is measured -> a dict, label -> list of values. The panels' labels are the same.
        x_label: what runs along the axis.
        caption: what to see.
        x: where the values stand; None: 1, 2, 3 ...
    """
    page = figure(3.4 * len(panels) + 2.0, 2.9, caption)
    for axes, (measured, series) in zip(page.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        for (label, values), colour, marker in zip(series.items(), COLOURS.values(), "os^Dv"):
            axes.plot(range(1, len(values) + 1) if x is None else x, values, marker + "-", color=colour, label=label,
                      markersize=4)
        axes.set_xlabel(x_label)
        axes.set_title(measured, fontsize=9)
        half_frame(axes)
    page.axes[-1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return page


def token_grid(picture, z_indices, caption):
    """A picture under the grid of its tokens; beside it the tokens' numbers on the mean colours of what they cover.

    Args:
        picture: (3, 64, 64) uint8.
        z_indices: (256,) long.
        caption: what to see.
    """
    page = figure(8.0, 4.3, caption)
    left, right = page.subplots(1, 2)
    show(left, picture, "64 x 64 pixels, cut by the grid of tokens")
    for edge in range(1, 16):
        left.axhline(4 * edge - 0.5, color="white", linewidth=0.5, alpha=0.7)
        left.axvline(4 * edge - 0.5, color="white", linewidth=0.5, alpha=0.7)
    cells = picture.float().unflatten(2, (16, 4)).unflatten(1, (16, 4)).mean(dim=(2, 4))  # (3, 16, 16)
    show(right, cells.to(torch.uint8), "16 x 16 tokens: 256 numbers")
    for token, code in enumerate(z_indices.tolist()):
        row, column = divmod(token, 16)
        dark = cells[:, row, column].mean() < 110
        right.text(column, row, code, fontsize=5, ha="center", va="center", color="white" if dark else "black")
    return page


def change(before, after, token, caption):
    """Two pictures, (3, 64, 64) uint8, and by how many of 255 levels each pixel differs; a frame around one token."""
    difference = (before.int() - after.int()).abs().amax(dim=0)
    page = figure(8.2, 3.0, caption)
    panels = page.subplots(1, 3)
    show(panels[0], before, "before")
    show(panels[1], after, "after")
    levels = panels[2].imshow((difference + 1).numpy(), norm="log", cmap="magma", vmin=1, vmax=256)
    bare(panels[2], "difference")
    for axes in panels:
        axes.add_patch(token_frame(token, 64))
    bar = page.colorbar(levels, ax=panels[2], ticks=[1, 2, 6, 21, 101, 256], shrink=0.85)
    bar.ax.set_yticklabels(["0", "1", "5", "20", "100", "255"], fontsize=8)
    bar.ax.minorticks_off()
    return page


def codes(means, examples, caption):
    """The codebook as one picture, and pieces of pictures that share a code.

    Args:
        means: (1024, 3, 4, 4) uint8, what each code stands for on average, in the order in which they are to be shown.
        examples: a dict, code -> (n, 3, h, w) uint8, pieces whose middle the code stands for, n the same for all.
        caption: what to see.
    """
    page = figure(9.0, 4.3, caption)
    left, right = page.subfigures(1, 2, width_ratios=(1, 1.15))
    side = math.isqrt(len(means))
    whole = means.unflatten(0, (side, side)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    show(left.subplots(), whole, f"{len(means)} codes, from dark to light")
    grid = right.subplots(len(examples), len(next(iter(examples.values()))))
    for line, (code, pieces) in zip(grid, examples.items()):
        for axes, piece in zip(line, pieces):
            show(axes, piece)
            middle = (piece.shape[1] - 4) / 2 - 0.5
            axes.add_patch(Rectangle((middle, middle), 4, 4, fill=False, edgecolor="white", linewidth=1))
        line[0].set_ylabel(code, fontsize=9, rotation=0, ha="right", va="center")
    return page


def hole_shares(holes, mask, caption):
    """One hole in pixels and in tokens, and what share of both every hole covers.

    Args:
        holes: (N, 64, 64) bool, True in the hole.
        mask: (N, 256) bool, True where a token is hidden.
        caption: what to see.
    """
    page = figure(9.0, 3.3, caption)
    pixels, latents, shares = page.subplots(1, 3, width_ratios=(1, 1, 1.25))
    show(pixels, mask_picture(holes[0].flatten()), f"{holes[0].float().mean():.0%} of the pixels")
    show(latents, mask_picture(mask[0]), f"{mask[0].float().mean():.0%} of the tokens")
    shares.scatter(100 * holes.flatten(1).float().mean(dim=1), 100 * mask.float().mean(dim=1), s=6, alpha=0.5,
                   color=COLOURS["blue"], linewidths=0)
    shares.plot([0, 60], [0, 60], ":", color=COLOURS["grey"], label="the same share")
    shares.set(xlabel="hidden pixels (%)", ylabel="hidden tokens (%)")
    shares.legend(fontsize=8, frameon=False, loc="upper left")
    shares.set(xlim=(0, 35), ylim=(0, 60))
    half_frame(shares)
    return page


def curves(panels, x_label, caption):
    """Curves side by side, a panel each, over one kind of x.

    Args:
        panels: a dict, y label -> dict, label -> (x values, y values).
        x_label: what x is.
        caption: what to see.
    """
    page = figure(4.3 * len(panels) + 0.6, 3.0, caption)
    for axes, (y_label, series) in zip(page.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        for (label, (x, y)), colour, marker in zip(series.items(), COLOURS.values(), "os^Dv"):
            axes.plot(x, y, marker + "-" if len(x) < 40 else "-", color=colour, label=label, markersize=4)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        half_frame(axes)
    return page


def step_bars(revealed, caption):
    """How many tokens each step reveals, a bar a schedule.

    Args:
        revealed: a dict, name -> a number of tokens for each step.
        caption: what to see.
    """
    page = figure(6.2, 3.0, caption)
    axes = page.subplots()
    width = 0.8 / len(revealed)
    for index, ((name, numbers), colour) in enumerate(zip(revealed.items(), COLOURS.values())):
        places = np.arange(1, len(numbers) + 1) + (index - (len(revealed) - 1) / 2) * width
        bars = axes.bar(places, numbers, 0.9 * width, color=colour, label=name)
        axes.bar_label(bars, fmt="%d", fontsize=7)
    axes.set_xticks(range(1, len(numbers) + 1))
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="step", ylabel="tokens revealed")
    axes.legend(fontsize=8, frameon=False)
    half_frame(axes)
    return page


def mask_steps(rows, picture, caption):
    """Masks in the latent domain, step by step, a row each, with the masked picture before them.

    Args:
        rows: a dict, name -> (S + 1, 256) bool, the hole's mask and the one after each step.
        picture: (3, 64, 64) uint8.
        caption: what to see.
    """
    steps = max(len(masks) for masks in rows.values())
    page = figure(1.05 * (steps + 1) + 0.6, 1.25 * len(rows) + 0.4, caption)
    for line, (name, masks) in zip(page.subplots(len(rows), steps + 1, squeeze=False), rows.items()):
        show(line[0], picture)
        line[0].set_ylabel(name, fontsize=9)
        for step, (axes, mask) in enumerate(zip(line[1:], masks)):
            show(axes, mask_picture(mask), f"{'step ' + str(step) if step else 'hole'}: {int(mask.sum())}")
        for axes in line[1 + len(masks):]:
            bare(axes)
    return page


def hidden_counts(panels, caption):
    """Histograms of how many of 256 tokens rows hide.

    Args:
        panels: a dict, title -> a dict, label -> (N,) counts.
        caption: what to see.
    """
    page = figure(8.0, 2.7, caption)
    grid = page.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, counts) in zip(grid, panels.items()):
        for (label, values), colour in zip(counts.items(), COLOURS.values()):
            axes.hist(values.numpy(), bins=np.arange(0, 257, 8), weights=np.full(len(values), 100 / len(values)),
                      color=colour, alpha=0.55, label=label)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("hidden tokens of 256")
        half_frame(axes)
        axes.set_ylim(0, 1.35 * axes.get_ylim()[1])  # room for the legend
        axes.legend(fontsize=8, frameon=False, loc="upper left")
    grid[0].set_ylabel("rows (%)")
    return page


def loss_by_share(ratios, losses, accuracies, caption):
    """Loss on hidden tokens, and how many of them are predicted exactly, over the share that is hidden."""
    page = figure(8.0, 3.0, caption)
    left, right = page.subplots(1, 2)
    left.plot(ratios, losses, "o-", color=COLOURS["blue"], markersize=4)
    left.axhline(math.log(1024), color=COLOURS["grey"], linestyle=":", label="guessing, ln 1024")
    left.set_ylabel("loss on hidden tokens (nats)")
    left.set_ylim(0, 7.4)
    left.legend(fontsize=8, frameon=False, loc="center left")
    right.plot(ratios, 100 * np.asarray(accuracies), "s-", color=COLOURS["orange"], markersize=4)
    right.set_ylabel("hidden tokens right (%)")
    right.set_ylim(0, 100)
    for axes in (left, right):
        axes.set_xlabel("share hidden")
        half_frame(axes)
    return page


def shares_by_batch(panels, caption):
    """The share hidden in each row, batch by batch.

    Args:
        panels: a dict, title -> (batches, rows) shares in [0, 1].
        caption: what to see.
    """
    page = figure(8.0, 2.7, caption)
    grid = page.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, shares) in zip(grid, panels.items()):
        place = np.arange(len(shares))[:, None] + np.linspace(-0.3, 0.3, shares.shape[1]) + 1
        axes.plot(place.flatten(), 100 * shares.flatten().numpy(), ".", color=COLOURS["blue"], markersize=3)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("batch")
        half_frame(axes)
    grid[0].set_ylabel("hidden (%)")
    return page


def heat_maps(maps, rows, columns, labels, caption, across=None, spreads=None, best=False):
    """Tables in colour, one beside the other, with the number in each place; NaN stays empty.

    Args:
        maps: a dict, title -> (len(rows), len(columns)) array. All share one scale of colours.
        rows, columns: names of the places.
        labels: what the rows and what the columns are.
        caption: what to see.
        across: so many maps in a line; None: all.
        spreads: a dict like `maps`, standard deviations to stand under the numbers.
        best: put a frame around the smallest number of all.
    """
    across = across or len(maps)
    lines, place_height = -(-len(maps) // across), 0.46 if spreads else 0.38
    page = figure(2.7 * across + 1.2, (place_height * len(rows) + (1.4 if lines == 1 else 0.75)) * lines, caption)
    grid = page.subplots(lines, across, sharex=True, sharey=True, squeeze=False)
    values = np.stack([np.asarray(table, dtype=float) for table in maps.values()])
    known = values[~np.isnan(values)]
    low, high = (known.min(), known.max()) if len(known) else (0, 1)
    for axes, title, table in zip(grid.flat, maps, values):
        drawn = axes.imshow(table, cmap="cividis", vmin=low, vmax=high, aspect="auto")
        for row, column in np.argwhere(~np.isnan(table)):
            spread = spreads[title][row][column] if spreads else np.nan
            axes.text(column, row, f"{table[row, column]:.1f}" + ("" if np.isnan(spread) else f"\n± {spread:.1f}"),
                      ha="center", va="center", fontsize=8 if np.isnan(spread) else 7, linespacing=1.05,
                      color="white" if table[row, column] < (low + high) / 2 else "black")
            if best and table[row, column] == low:
                axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, linewidth=2.5,
                                         edgecolor=COLOURS["orange"]))
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_title(title, fontsize=9)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    for axes in grid.flat[len(maps):]:
        bare(axes)
    for axes in grid[-1]:
        axes.set_xlabel(labels[1])
    for line in grid:
        line[0].set_ylabel(labels[0], labelpad=8)
    page.colorbar(drawn, ax=list(grid.flat), shrink=0.8 / lines, aspect=20 / lines**0.5)
    return page


def dots(rows, x_label, caption):
    """Values of several seeds, a line of dots a setting, with mean and standard deviation.

    Args:
        rows: a dict, label -> list of values; one of a single value has no deviation.
        x_label: what they measure.
        caption: what to see.
    """
    page = figure(7.0, 0.3 * len(rows) + 1.2, caption)
    axes = page.subplots()
    for place, values in enumerate(rows.values()):
        axes.errorbar(np.mean(values), place, xerr=np.std(values, ddof=1) if len(values) > 1 else None, fmt="|",
                      color=COLOURS["blue"], capsize=4, markersize=14)
        axes.plot(values, [place] * len(values), "o", color="black", markersize=3)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(x_label)
    half_frame(axes)
    return page


def wall(pictures, columns, caption):
    """Many pictures close together, row by row; pictures (N, 3, H, W) uint8."""
    n, _, height, width = pictures.shape
    rows = -(-n // columns)
    paper = torch.full((3, rows * (height + 2), columns * (width + 2)), 255, dtype=torch.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // columns * (height + 2), place % columns * (width + 2)
        paper[:, top:top + height, left:left + width] = picture
    page = figure(10, 10 * paper.shape[1] / paper.shape[2] + 0.3, caption)
    show(page.subplots(), paper)
    return page


def tag(png, alt):
    """The bytes of a PNG as an <img>, as wide as it is where there is room."""
    source = base64.b64encode(png).decode()
    return f'<img alt="{html.escape(alt)}" style="max-width: 100%" src="data:image/png;base64,{source}">'
