"""A decoding as HTML: step by step, one step large, two settings side by side.

In: `explorer.Trace`s. Out: HTML that loads nothing from elsewhere and takes its colours from the page around it.
"""

import html
import io

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image

from lab3.common.plots import COLOURS, KNOWN, mask_picture, tag

SUREST, LEAST_SURE = 0.0, -6.0  # log p at the ends of the scale of colours
CONFIDENCE = colormaps["cividis"]  # reads alike with all kinds of colour vision

STYLE = f"""<style>
.l3 {{ color: var(--jp-ui-font-color1, inherit); font: 13px/1.35 var(--jp-ui-font-family, system-ui, sans-serif); }}
.l3 img {{ display: block; image-rendering: pixelated; border-radius: 2px; }}
.l3 ol, .l3 .pair {{ display: flex; flex-wrap: wrap; gap: 8px 6px; list-style: none; margin: 4px 0 12px; padding: 0; }}
.l3 li {{ width: 78px; text-align: center; border-bottom: 3px solid transparent; padding-bottom: 3px; }}
.l3 li.now {{ border-color: {COLOURS['orange']}; }}
.l3 li img {{ width: 78px; height: 78px; margin-bottom: 2px; }}
.l3 .pair {{ gap: 12px; align-items: flex-end; }}
.l3 figure {{ margin: 0; flex: 0 1 164px; min-width: 110px; }}
.l3 figure img {{ width: 100%; height: auto; }}
.l3 figcaption {{ margin-top: 3px; min-height: 2.7em; }}
.l3 h4 {{ margin: 8px 0 2px; font-size: 14px; }}
.l3 p {{ margin: 2px 0 6px; }}
.l3 .scale {{ display: inline-block; width: 90px; height: 10px; vertical-align: -1px; border-radius: 2px; }}
.l3 b.differs {{ border-bottom: 2px solid {COLOURS['orange']}; }}
</style>"""


def image(picture, alt):
    """(3, H, W) uint8 as an <img>."""
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).numpy())).save(data, "PNG")
    return tag(data.getvalue(), alt)


def confidence_picture(confidence):
    """Confidence (256,), NaN where known, as a (3, 16, 16) uint8 picture: the lighter the surer, paper where known."""
    side = int(len(confidence) ** 0.5)
    scaled = ((confidence - LEAST_SURE) / (SUREST - LEAST_SURE)).clamp(0, 1).nan_to_num().view(side, side).numpy()
    colours = torch.from_numpy(CONFIDENCE(scaled)[..., :3]).permute(2, 0, 1).float()
    known = confidence.isnan().view(1, side, side)
    return (torch.where(known, torch.tensor(KNOWN)[:, None, None], colours) * 255).to(torch.uint8)


def marked(picture, tokens):
    """A picture (3, 64, 64) with some of its 256 tokens' places, (256,) bool, framed in orange."""
    large = picture.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2).clone()
    places = tokens.view(16, 16).repeat_interleave(16, dim=0).repeat_interleave(16, dim=1)  # (256, 256)
    inside = torch.zeros_like(places)
    inside[2:-2, 2:-2] = (places[2:-2, 2:-2] & places[:-4, 2:-2] & places[4:, 2:-2] & places[2:-2, :-4]
                          & places[2:-2, 4:])
    colour = torch.tensor([int(COLOURS["orange"][i:i + 2], 16) for i in (1, 3, 5)], dtype=torch.uint8)
    return torch.where((places & ~inside)[None], colour[:, None, None], large)


def strip(trace, now=None):
    """All steps of a trace, each with its mask, its confidence and its prediction; the step `now` is underlined."""
    cells = []
    for step, mask in enumerate(trace.masks):
        hidden = int(mask.sum())
        name = f"step {step}" if step else "hole"
        parts = [image(mask_picture(mask), f"{name}: mask, {hidden} tokens hidden")]
        if trace.confidence is not None:
            sure = trace.confidence[step - 1] if step else torch.full((256,), torch.nan)
            parts.append(image(confidence_picture(sure), f"{name}: confidence"))
        if trace.pictures is not None:
            parts.append(image(trace.pictures[step - 1] if step else trace.masked, f"{name}: picture"))
        chosen = ' class="now" aria-current="step"' if step == now else ""
        cells.append(f"<li{chosen}>{''.join(parts)}{name}<br>{hidden} hidden</li>")
    return f"<ol>{''.join(cells)}</ol>"


def legend(trace):
    """What the rows of a strip are."""
    if trace.pictures is None:
        return ("<p>Masks, dark where hidden. No decoding is at hand, so the order of the tokens is drawn at random: "
                "only the pace counts.</p>")
    rows = ["the mask after the step, dark where hidden", "what the step predicts"]
    if trace.confidence is not None:
        stops = ", ".join("rgb({:.0f} {:.0f} {:.0f})".format(*(255 * part for part in CONFIDENCE(x / 8)[:3]))
                          for x in range(9))
        scale = f"<span class='scale' style='background: linear-gradient(90deg, {stops})'></span>"
        rows.insert(1, f"confidence in the tokens predicted, log p from {LEAST_SURE:g} {scale} to {SUREST:g}")
    note = "" if trace.confidence is not None else (
        " No confidence is shown: the decoding asked the model another number of times than it has steps.")
    return f"<p>From above: {'; '.join(rows)}.{note}</p>"


def stage(traces, step):
    """One step, large: for each name the picture as far as it is, with frames where it is still hidden.

    Args:
        traces: a dict, name -> `Trace`.
        step: 0 for the hole, then 1, 2, ...; a shorter trace stays at its last.
    """
    figures = []
    for name, trace in traces.items():
        at = min(step, len(trace.masks) - 1)
        hidden = int(trace.masks[at].sum())
        picture = trace.masked if at == 0 or trace.pictures is None else torch.where(
            _pixels(trace.masks[at]), trace.masked // 2 + trace.pictures[at - 1] // 2, trace.pictures[at - 1])
        figures.append(_figure(marked(picture, trace.masks[at]), f"{name}, step {at} of {len(trace.masks) - 1}: "
                                                                 f"{hidden} tokens hidden"))
    return f"<div class='pair'>{''.join(figures)}</div>"


def outcome(traces):
    """The filled pictures beside the original; of two, also where their tokens differ."""
    first = next(iter(traces.values()))
    if first.pictures is None:
        return ""
    figures = [_figure(first.masked, "masked")]
    for name, trace in traces.items():
        figures.append(_figure(trace.pictures[-1], f"{name}: decoded, PSNR in the hole {trace.psnr_hole:.1f} dB"))
        if len(traces) == 1:
            figures.append(_figure(trace.pasted, "known pixels put back"))
    if len(traces) == 2:
        a, b = traces.values()
        differ = a.tokens[-1] != b.tokens[-1]
        figures.append(_figure(marked(b.pictures[-1], differ),
                               f"framed: {int(differ.sum())} of {int(b.masks[0].sum())} tokens differ"))
    figures.append(_figure(first.original, "original"))
    return f"<div class='pair'>{''.join(figures)}</div>"


def differences(a, b):
    """The settings that two dicts, label -> value, do not share, as a sentence with marks."""
    parts = [f"{html.escape(label)} <b class='differs'>{html.escape(str(a[label]))}</b> against "
             f"<b class='differs'>{html.escape(str(b[label]))}</b>" for label in a if a[label] != b.get(label)]
    return f"<p>A against B: {'; '.join(parts) or 'the same settings'}.</p>"


def _pixels(mask):
    return mask.view(16, 16).repeat_interleave(4, dim=0).repeat_interleave(4, dim=1)[None]


def _figure(picture, caption):
    return f"<figure>{image(picture, caption)}<figcaption>{html.escape(caption)}</figcaption></figure>"
