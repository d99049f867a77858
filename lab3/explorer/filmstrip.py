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
from lab3.metrics.truth import PARTS, words

SUREST, LEAST_SURE = 0.0, -6.0  # log p at the ends of the scale of colours
CONFIDENCE = colormaps["cividis"]  # reads alike with all kinds of colour vision

STYLE = f"""<style>
.l3 {{ color: var(--jp-ui-font-color1, inherit); font: 13px/1.35 var(--jp-ui-font-family, system-ui, sans-serif); }}
.l3 img {{ display: block; image-rendering: pixelated; border-radius: 2px; }}
.l3 ol, .l3 .pair {{ display: flex; flex-wrap: wrap; gap: 8px 6px; list-style: none; margin: 4px 0 12px; padding: 0; }}
.l3 li {{ flex: 1 1 78px; max-width: 140px; text-align: center; border-bottom: 3px solid transparent;
  padding-bottom: 3px; }}
.l3 li.now {{ border-color: {COLOURS['orange']}; }}
.l3 li img {{ width: 100%; aspect-ratio: 1; margin-bottom: 2px; }}
.l3 .pair {{ gap: 12px; }}
.l3 figure {{ margin: 0; flex: 1 1 112px; max-width: 164px; }}
.l3 figure img {{ width: 100%; height: auto; }}
.l3 figcaption {{ margin-top: 3px; min-height: 2.7em; }}
.l3 h4 {{ margin: 8px 0 2px; font-size: 14px; }}
.l3 p {{ margin: 2px 0 6px; }}
.l3 .scale {{ display: inline-block; width: 90px; height: 10px; vertical-align: -1px; border-radius: 2px; }}
.l3 .old {{ border-left: 4px solid {COLOURS['orange']}; padding: 2px 8px; }}
.l3 table {{ border-collapse: collapse; margin: 4px 0 12px; }}
.l3 th, .l3 td {{ text-align: left; vertical-align: top; padding: 3px 14px 3px 0; }}
.l3 tr {{ border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); }}
.l3 b.differs {{ border-bottom: 2px solid {COLOURS['orange']}; }}
</style>"""


def image(picture, alt):
    """(3, H, W) uint8 as an <img>."""
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).numpy())).save(data, "PNG")
    return tag(data.getvalue(), alt)


def data_url(picture):
    """(3, H, W) uint8 as a data URL."""
    return image(picture, "").split('src="')[1].rstrip('">')


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
        figures.append(figure(marked(picture, trace.masks[at]), f"{name}, step {at} of {len(trace.masks) - 1}: "
                                                                 f"{hidden} tokens hidden"))
    return f"<div class='pair'>{''.join(figures)}</div>"


def outcome(traces):
    """The filled pictures beside the original; of two, also where their tokens differ.

    Where the truth about pictures is known, it says below each what it shows. Where everything was hidden, what is
    drawn has no original.
    """
    first = next(iter(traces.values()))
    if first.pictures is None:
        return ""
    figures = [] if first.from_nothing else [figure(first.masked, "masked")]
    for name, trace in traces.items():
        decoded, pasted, original = truth_of(trace)
        said = "drawn from nothing" if first.from_nothing else f"decoded, PSNR in the hole {trace.psnr_hole:.1f} dB"
        figures.append(figure(trace.pictures[-1], f"{name}: {said}", decoded))
        if len(traces) == 1 and not first.from_nothing:
            figures.append(figure(trace.pasted, "known pixels put back", pasted))
    if len(traces) == 2:
        a, b = traces.values()
        differ = a.tokens[-1] != b.tokens[-1]
        figures.append(figure(marked(b.pictures[-1], differ),
                               f"framed: {int(differ.sum())} of {int(b.masks[0].sum())} tokens differ"))
    if not first.from_nothing:
        figures.append(figure(first.original, "original", original))
    note = "" if first.truth is None else (
        "<p>Below each picture: the nearest of all cats that the kit can compose. <b>Torn</b>: pieces of a part show "
        "another value.</p>")
    return f"<div class='pair'>{''.join(figures)}</div>{note}"


def truth_of(trace):
    """What the last picture, the one with known pixels put back and the original show, in words; "" if not known."""
    return words(trace.truth) if trace.truth is not None else [""] * 3


def scores(traces):
    """A table of traces of one hole: what each shows, and how far it agrees with the original.

    Args:
        traces: a dict, name -> `Trace`.
    """
    rows = {"": [html.escape(name) for name in traces]}
    found = list(traces.values())
    if (of := found[0].truth) is not None:
        rows["shows"] = [_words(truth_of(trace)[0]) for trace in found]
        rows["a composable cat"] = ["yes" if trace.truth.valid[0] else "no" for trace in found]
    if not found[0].from_nothing:
        if of is not None:
            rows[f"parts as in the original, of {len(PARTS)}"] = [_parts(trace.truth.values) for trace in found]
        rows["hidden tokens as in the original"] = [f"{trace.same} of {int(trace.masks[0].sum())}" for trace in found]
        rows["PSNR in the hole"] = [f"{trace.psnr_hole:.1f} dB" for trace in found]
    head, *body = [f"<tr><th scope='row'>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
                   for name, cells in rows.items()]
    return f"<table>{head.replace('td>', 'th>')}{''.join(body)}</table>"


def _parts(values):
    """How many parts (3, 6) of the first row are the last row's, and which are not."""
    other = [part for part, same in zip(PARTS, values[0] == values[-1]) if not same]
    return f"{len(PARTS) - len(other)}" + (f" (other {', '.join(other)})" if other else "")


def differences(a, b):
    """The settings that two dicts, label -> value, do not share, as a sentence with marks."""
    parts = [f"{html.escape(label)} <b class='differs'>{html.escape(str(a[label]))}</b> against "
             f"<b class='differs'>{html.escape(str(b[label]))}</b>" for label in a if a[label] != b.get(label)]
    return f"<p>A against B: {'; '.join(parts) or 'the same settings'}.</p>"


def _pixels(mask):
    return mask.view(16, 16).repeat_interleave(4, dim=0).repeat_interleave(4, dim=1)[None]


def figure(picture, caption, said=""):
    """A picture (3, H, W) uint8 as a <figure>, with a caption and what `words` says of it."""
    return (f"<figure>{image(picture, caption)}<figcaption>{html.escape(caption)}{'<br>' if said else ''}{_words(said)}"
            "</figcaption></figure>")


def _words(said):
    """What a picture shows, as HTML: what is wrong with it in bold."""
    shown, *wrong = html.escape(said).split("; ")
    return f"<i>{'; '.join([shown, *(f'<b>{one}</b>' for one in wrong)])}</i>" if said else ""
