"""A report as a list of blocks, and the page that it becomes: one HTML file that loads nothing from elsewhere.

In: blocks, such as headings, texts, code, figures. Out: HTML for screens and paper; `lab3.report.pdf`
takes the same blocks. Whatever text comes in is escaped on its way out.
"""

import base64
import io
import re
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

import jinja2
from markupsafe import Markup

from lab3.common.plots import png

SIZE = 10.5  # of text on paper, in points
DPI = 170  # of figures: sharp on paper, and a page of some megabytes


@dataclass(frozen=True)
class Title:
    """The report's name, and lines that stand under it."""

    text: str
    lines: tuple = ()


@dataclass(frozen=True)
class Heading:
    """A heading; `level` 1 for parts, 2 for sections, 3 for what stands in them. The first two are numbered."""

    text: str
    level: int = 1


@dataclass(frozen=True)
class Text:
    """Running text in Markdown: paragraphs, lists, tables, code, emphasis, links, formulas between dollars, pictures.

    HTML in it is shown, never obeyed. Pictures are files in `folder`; without one, and from elsewhere, none is loaded.
    """

    text: str
    folder: Path | None = None


@dataclass(frozen=True)
class Code:
    """Python code, as it was written."""

    text: str


@dataclass(frozen=True)
class Verdict:
    """What a check said: `outcome` "passed", "failed" or "missing", and its message, line by line."""

    outcome: str
    message: str


@dataclass(frozen=True)
class Gap:
    """A place that is still empty, and what would fill it."""

    text: str


@dataclass(frozen=True)
class Figure:
    """A picture of `width` inches as a PNG, with a numbered caption."""

    png: bytes
    width: float
    caption: str


@dataclass(frozen=True)
class Table:
    """Rows under a header. Columns after the first stand to the right where `numbers` is set."""

    header: tuple
    rows: tuple
    caption: str = ""
    numbers: bool = False


def figure(page, caption):
    """A matplotlib figure as a `Figure`."""
    return Figure(png(page, DPI), page.get_figwidth(), caption)


def numbered(blocks):
    """Give headings, figures and tables their numbers.

    Returns:
        Pairs (number, block): "2.1" for a heading, "Figure 3", "Table 1", and "" for all else.
    """
    part = section = figures = tables = 0
    pairs = []
    for block in blocks:
        number = ""
        if isinstance(block, Heading) and block.level == 1:
            part, section = part + 1, 0
            number = f"{part}"
        elif isinstance(block, Heading) and block.level == 2:
            section += 1
            number = f"{part}.{section}"
        elif isinstance(block, Figure):
            figures += 1
            number = f"Figure {figures}"
        elif isinstance(block, Table) and block.caption:
            tables += 1
            number = f"Table {tables}"
        pairs.append((number, block))
    return pairs


def markdown():
    """The Markdown reader of reports. It knows no HTML, so a text can run nothing."""
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    return MarkdownIt("commonmark", {"html": False}).enable("table").use(
        dollarmath_plugin, allow_space=False, allow_digits=False, double_inline=True)


@dataclass(frozen=True)
class Drawn:
    """A formula or a picture as a PNG; sizes in points, `depth` of them below the line of the text."""

    png: bytes
    width: float
    height: float
    depth: float = 0.0


# Spellings of LaTeX that matplotlib does not know, and those that it knows. A brace may hold braces, four deep.
_BRACED = r"\{(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*\}"
_SPELLINGS = [(re.compile(pattern, re.DOTALL), known) for pattern, known in (
    (r"\\[td]frac", r"\\frac"), (r"\\[lr]Vert", r"\\Vert"), (r"\\([lg])e(?![A-Za-z])", r"\\\1eq"),
    (r"\\(sqrt|bar|hat|tilde|math(?:rm|bf|it|cal|bb|tt))\s*([A-Za-z0-9])", r"\\\1{\2}"),
    (r"\\frac\s*([A-Za-z0-9])\s*([A-Za-z0-9])", r"\\frac{\1}{\2}"),
    (rf"\\underbrace\s*({_BRACED})\s*_\s*({_BRACED})", r"\\underset\2\1"),
    (r"\\begin\{cases\}(.*?)\\end\{cases\}", r"\\left\\{ \\substack{\1} \\right."),
    (r"&", r"\\quad "), (r"\\\\\s*\[.*?\]", r"\\\\"))]


@cache
def formula(latex):
    """A formula as matplotlib sets it, a subset of LaTeX; None where it is not in that subset."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Page
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import MathTextParser

    for pattern, spelling in _SPELLINGS:
        latex = pattern.sub(spelling, latex)
    text = f"${' '.join(latex.split())}$"
    look = FontProperties(size=SIZE, math_fontfamily="stix")
    try:
        width, height, depth, _, _ = MathTextParser("path").parse(text, dpi=72, prop=look)
    except ValueError:
        return None
    page = Page(figsize=((width + 2) / 72, (height + 2) / 72))
    FigureCanvasAgg(page)
    page.text(1 / (width + 2), (depth + 1) / (height + 2), text, fontproperties=look)
    data = io.BytesIO()
    page.savefig(data, format="png", dpi=400, facecolor="white")
    return Drawn(data.getvalue(), width + 2, height + 2, depth + 1)


def picture(source, folder):
    """A picture of a text, as large as it is at 96 pixels an inch; None where it is not a picture in the folder."""
    from PIL import Image

    path = Path(folder or ".", source)
    if folder is None or not path.resolve().is_relative_to(Path(folder).resolve()):
        return None
    data = io.BytesIO()
    try:
        with Image.open(path) as found:
            found.convert("RGBA").save(data, "PNG")
            return Drawn(data.getvalue(), found.width * 0.75, found.height * 0.75)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def not_shown(token, folder):
    """What a report says in place of a picture or formula that it cannot show."""
    if token.type == "image":
        where = folder.name if folder else "the report's folder"
        return f"[{token.attrs['src']}: no picture of this name in {where}/]"
    return f"${token.content}$"


def html(blocks, title):
    """The page: HTML in one file."""
    pairs = [(number, type(block).__name__, block) for number, block in numbered(blocks)]
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
                                     autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"markdown": _markdown_html, "highlight": _code_html,
                            "base64": lambda data: base64.b64encode(data).decode(),
                            "name": lambda text: re.sub(r"\W+", "-", text.lower()).strip("-")}
    kinds = {type(block) for block in blocks}
    return environment.get_template("report.html").render(
        title=title, pairs=pairs, code_rules=_code_rules() if Code in kinds else "",
        contents=[(number, block) for number, kind, block in pairs if kind == "Heading" and block.level < 3])


def _markdown_html(block):
    reader = markdown()

    def image(_, tokens, place, options, environment):
        token = tokens[place]
        return _tag(picture(token.attrs["src"], block.folder), token.content) or escape(not_shown(token, block.folder))

    def inline(_, tokens, place, options, environment):
        found = formula_tag(tokens[place].content)
        return found or f"<code>{escape(not_shown(tokens[place], None))}</code>"

    def display(*arguments):
        return f'<p class="display">{inline(*arguments)}</p>\n'

    for kind, rule in (("image", image), ("math_inline", inline), ("math_inline_double", inline),
                       ("math_block", display)):
        reader.add_render_rule(kind, rule)
    return Markup(reader.render(block.text))


def formula_tag(latex):
    """A formula as an <img> in HTML; None where it cannot be drawn."""
    return _tag(formula(latex), latex, "formula")


def _tag(drawn, alt, kind="picture"):
    """An <img> of something drawn; None where there is nothing."""
    if drawn is None:
        return None
    source = base64.b64encode(drawn.png).decode()
    unit, size = ("em", SIZE) if kind == "formula" else ("pt", 1)  # a formula is as large as the text around it
    return (f'<img class="{kind}" alt="{escape(alt)}" src="data:image/png;base64,{source}" style="width: '
            f'{drawn.width / size:.2f}{unit}; vertical-align: {-drawn.depth / size:.2f}{unit}">')


def _code_html(text):
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return Markup(highlight(text, PythonLexer(stripnl=False), HtmlFormatter(nowrap=True)))


def code_style(dark=False):
    """Pygments' style of code on light pages and on paper, or on dark ones; docstrings are quieter than Pygments'."""
    from pygments.styles import get_style_by_name
    from pygments.token import String

    base = get_style_by_name("github-dark" if dark else "default")
    return type("CodeStyle", (base,), {"styles": base.styles | {String.Doc: "#9aa4b2" if dark else "#59636e"}})


def _code_rules():
    from pygments.formatters import HtmlFormatter

    def rules(style):
        lines = HtmlFormatter(style=style).get_style_defs("pre.code").splitlines()
        return "\n".join(line for line in lines if line.startswith("pre.code ."))

    return Markup(f"{rules(code_style())}\n@media screen and (prefers-color-scheme: dark) {{\n"
                  f"{rules(code_style(dark=True))}\n}}")
