"""A report as a list of blocks, and the page that it becomes: one HTML file that loads nothing from elsewhere.

In: blocks, such as headings, texts, code, figures. Out: HTML for screens and paper; `lab3.report.pdf`
takes the same blocks. Whatever text comes in is escaped on its way out.
"""

import base64
import re
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from lab3.common.plots import png

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
    """Running text in Markdown: paragraphs, lists, code, emphasis, links. HTML in it is shown, never obeyed."""

    text: str


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
    """The Markdown reader of reports. It knows no HTML and no pictures, so a text can load nothing and run nothing."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).disable(["image"])


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


def _markdown_html(text):
    return Markup(markdown().render(text))


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
