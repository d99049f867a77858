"""The explorer's own widgets, drawn in the browser: the chart, and pads to paint a hole or to choose tokens on.

In: traits that Python sets. Out: traits that the browser sets, `heights` and `marked`.
"""

from pathlib import Path

import anywidget
import traitlets

from lab3.explorer.formula import HANDLES

WEB = Path(__file__).parent / "web"


class Chart(anywidget.AnyWidget):
    """Curves with a marker a step, bars of the tokens revealed, and handles for a drawn curve."""

    _esm, _css = WEB / "curve.js", WEB / "pads.css"
    curves = traitlets.List().tag(sync=True)
    heights = traitlets.List((1 - HANDLES**2).round(2).tolist()).tag(sync=True)
    editable = traitlets.Bool(False).tag(sync=True)


class HolePad(anywidget.AnyWidget):
    """A picture to paint a hole on; `marked` is 64 x 64 characters, 1 in the hole."""

    _esm, _css = WEB / "pad.js", WEB / "pads.css"
    side = traitlets.Int(64).tag(sync=True)
    picture = traitlets.Unicode("").tag(sync=True)
    marked = traitlets.Unicode("0" * 4096).tag(sync=True)
    brush = traitlets.Int(8).tag(sync=True)


class TokenPad(anywidget.AnyWidget):
    """A picture whose tokens can be chosen, at most `most` of those that are `free`.

    `marked` and `free` are 16 x 16 characters, 1 where a token is chosen or can be.
    """

    _esm, _css = WEB / "pad.js", WEB / "pads.css"
    side, brush = (traitlets.Int(value).tag(sync=True) for value in (16, 1))
    picture = traitlets.Unicode("").tag(sync=True)
    marked, free = (traitlets.Unicode("0" * 256).tag(sync=True) for _ in range(2))
    most = traitlets.Int(0).tag(sync=True)
