r"""Slides for lectures, from the notebooks' headings, predictions, formulas, tables and figures.

In: the solved notebooks. Out: `out/slides/NN_name.slides.html`, made by nbconvert's reveal.js exporter, with reveal.js
beside them: they need no network. Everything else that a notebook says becomes the speaker's notes (key S).

    python solutions/slides.py               # all notebooks
    python solutions/slides.py 04 05         # some
    python solutions/slides.py --reveal DIR  # with the reveal.js in DIR, for a machine without a package index

reveal.js comes from pip, once: the package below holds a built one, and nobody needs Node.js. `npm pack reveal.js`,
unpacked, is a DIR as well.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from jinja2 import DictLoader
from nbconvert import SlidesExporter

from lab3.common.files import InputError, write_text
from lab3.common.plots import is_figure
from lab3.report.pages import formula_tag

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out" / "slides"
REVEAL = "sphinx-revealjs==3.2.1"
INSIDE = "sphinx_revealjs/_static/revealjs/"  # of that package
NEEDED = re.compile(r"LICENSE|dist/(reset\.css|reveal\.(css|js)|theme/(white\.css|fonts/.+))|plugin/notes/notes\.js")
LINES = 16  # the longest printed result that fits a slide

# nbconvert's page without what it loads from elsewhere: MathJax, RequireJS, jQuery, Mermaid, JupyterLab's style.
PAGE = """\
{% extends 'index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block notebook_css %}
<style>
  main { height: 100% } .anchor-link { display: none } .reveal .slides { font-size: 27px }
  .reveal .slides h1, .reveal .slides h2 { text-transform: none; letter-spacing: 0; font-size: 1.9em }
  .reveal .slides h2 { font-size: 1.4em } .reveal .slides h2 code { font-size: .9em }
  .reveal .slides section { text-align: left } .reveal .slides ul { display: block }
  .reveal .slides .display { text-align: center; margin: 1.2em 0; font-size: 1.15em }
  .reveal .slides section img { margin: 0; border: 0; box-shadow: none; max-height: none }
  .reveal .slides .jp-OutputArea-output img { display: block; margin: auto; max-width: 100%; max-height: 520px;
    min-height: 260px; object-fit: contain }
  .reveal .slides table { font-size: .8em }
  .reveal .slides pre { box-shadow: none; width: 100%; font-size: .62em; white-space: pre-wrap }
</style>
{% endblock %}
{% block footer_js %}
<script src="{{ reveal_url_prefix }}/dist/reveal.js"></script>
<script src="{{ reveal_url_prefix }}/plugin/notes/notes.js"></script>
<script>
  Reveal.initialize({
    hash: true, slideNumber: "c/t", transition: "none", width: 1100, height: 700, plugins: [RevealNotes]})
</script>
{% endblock %}
"""


@dataclass
class Slide:
    """One slide: cells to show under a heading, and the speaker's notes; `first` of its section."""

    heading: str
    first: bool
    cells: list
    notes: list = field(default_factory=list)


def slides(notebook):
    """The slides of a notebook that was run.

    A heading begins a section. Its predictions with their printed results, its formulas and tables, and each of its
    figures are slides; other text goes to the notes of the slide before it, or of the section's first one. A section
    without anything to show is left out, but for exercises.
    """
    found, heading, waiting, asked = [], "", [], False

    def show(*cells):
        first = not found or found[-1].heading != heading
        found.append(Slide(heading, first, list(cells), waiting.copy()))
        waiting.clear()

    for cell in notebook.cells:
        if cell.cell_type == "code":
            for output in cell.outputs:
                if is_figure(output):
                    show(nbformat.v4.new_code_cell(outputs=[output]))
                elif asked and output.get("name") == "stdout" and output.text.count("\n") <= LINES:
                    show(nbformat.v4.new_markdown_cell(f"```text\n{output.text.rstrip()}\n```"))
            asked = False
            continue
        for block in blocks(cell.source):
            notes = found[-1].notes if found and heading == found[-1].heading else waiting
            if block.startswith("#"):
                waiting.clear()
                heading = block.lstrip("# ")
                if block.startswith("# ") or heading.startswith("Exercise"):
                    show()
            elif heading and found and found[-1].first and not found[-1].cells and block.startswith(("*", "|")):
                found[-1].cells.append(nbformat.v4.new_markdown_cell(block))
            elif block.startswith(("$$", "|")) or "**Predict" in block:
                asked = "**Predict" in block
                show(nbformat.v4.new_markdown_cell(block))
            else:
                notes.append(block)
    return found


def blocks(text):
    """The blocks of a text: headings, paragraphs, tables; a folded part or a piece of code is one block."""
    found = re.split(r"(<details>.*?</details>|^```.*?^```)", text, flags=re.DOTALL | re.MULTILINE)
    return [block.strip() for part in found for block in
            ([part] if part.startswith(("<details>", "```")) else re.split(r"\n\s*\n|(?<=^)(?=#)|(?<=\n)(?=#)", part))
            if block.strip()]


def as_notebook(found):
    """Slides as a notebook with the metadata that nbconvert reads."""
    cells = []
    for slide in found:
        level = "#" if slide is found[0] else "##"
        parts = [nbformat.v4.new_markdown_cell(f"{level} {slide.heading}"), *slide.cells]
        kinds = ["slide" if slide.first else "subslide"] + ["-"] * len(slide.cells)
        if slide.notes:
            parts.append(nbformat.v4.new_markdown_cell("\n\n".join(slide.notes)))
            kinds.append("notes")
        for part, kind in zip(parts, kinds, strict=True):
            part.metadata["slideshow"] = {"slide_type": kind}
            if part.cell_type == "markdown":
                part.source = with_formulas(part.source)
        cells += parts
    return nbformat.v4.new_notebook(cells=cells)


def with_formulas(text):
    """A text with its formulas drawn: the page needs no MathJax. What cannot be drawn is shown as code."""
    def drawn(mark):
        tag = formula_tag(mark[1] or mark[2]) or f"`{mark[0]}`"
        return f'<p class="display">{tag}</p>' if mark[1] else tag

    parts = re.split(r"(^```.*?^```|`[^`\n]+`)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("`") else re.sub(r"\$\$(.+?)\$\$|\$([^$]+?)\$", drawn, part, flags=re.DOTALL)
                   for part in parts)


def page(notebook, title):
    """The slides of a notebook that was run, as HTML that finds reveal.js in the folder `reveal.js` beside it."""
    exporter = SlidesExporter(extra_loaders=[DictLoader({"slides.html.j2": PAGE})], template_file="slides.html.j2")
    exporter.reveal_url_prefix, exporter.reveal_theme = "reveal.js", "white"  # its fonts are files
    exporter.exclude_input = exporter.exclude_output_prompt = True
    made = as_notebook(slides(notebook))
    made.metadata["title"] = title
    return exporter.from_notebook_node(made)[0]


def reveal_js(folder, own=None):
    """Put reveal.js into a folder: a copy of one's own, else pip's, unless it is there already.

    Raises:
        InputError: neither is to be had.
    """
    if own is not None and not (own / "dist" / "reveal.js").is_file():
        raise InputError(f"{own}: holds no dist/reveal.js. Name an unpacked reveal.js, as `npm pack reveal.js` "
                         "gives it.")
    if own is None and (folder / "dist" / "reveal.js").is_file():
        return
    with tempfile.TemporaryDirectory() as scratch:
        if own is None:
            done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch,
                                   REVEAL], stdout=sys.stderr)
            if done.returncode:
                raise InputError(f"reveal.js: pip could not download {REVEAL}. Run this once with a network, or name "
                                 "an unpacked reveal.js with --reveal DIR.")
            [wheel] = Path(scratch).glob("*.whl")
            zipfile.ZipFile(wheel).extractall(scratch)
            own = Path(scratch) / INSIDE
        for path in own.rglob("*"):
            name = path.relative_to(own).as_posix()
            if path.is_file() and NEEDED.fullmatch(name):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder / name)


def notebooks():
    """The solved notebooks, in order."""
    return sorted((ROOT / "solutions").glob("[0-9][0-9]_*.ipynb"))


def write(out=OUT, numbers=(), own=None):
    """Write the slides of notebooks, all of them unless numbers are given; returns their paths.

    Raises:
        InputError: no such notebook, or no reveal.js.
    """
    found = [path for path in notebooks() if not numbers or path.stem[:2] in numbers]
    if missing := set(numbers) - {path.stem[:2] for path in found}:
        raise InputError(f"{', '.join(sorted(missing))}: no such notebook. Write numbers such as 05.")
    reveal_js(Path(out) / "reveal.js", own)
    pages = []
    for path in found:
        pages.append(Path(out) / f"{path.stem}.slides.html")
        write_text(pages[-1], page(nbformat.read(path, as_version=4), path.stem.replace("_", " ")))
    return pages


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("numbers", nargs="*", metavar="NN", help="notebooks; default: all")
    parser.add_argument("--reveal", type=Path, metavar="DIR", help="an unpacked reveal.js; default: pip's")
    options = parser.parse_args()
    try:
        print(*write(numbers=options.numbers, own=options.reveal), sep="\n")
    except InputError as error:
        sys.exit(str(error))
