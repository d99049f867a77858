"""Build the documentation as a site that needs no network: `make docs`, then open `out/site/index.html`.

In: README, CONTRIBUTING, CHANGELOG, `docs/*.md` but what holds answers, and the starters in `notebooks/`. Between:
`out/pages`, Markdown for MkDocs, in which formulas are MathML and links lead to pages. Out: `out/site`.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from latex2mathml.converter import convert

from lab3.common.files import write_text

ROOT = Path(__file__).resolve().parent.parent
PAGES, SITE = ROOT / "out" / "pages", ROOT / "out" / "site"
TEXTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "data/cats/LICENSE.md", "notebooks/*.ipynb")
ANSWERS = ("docs/SOLUTIONS.md", "docs/TEACHING.md")  # students see the site
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])+)\]\((?!https?:)([^)#\s]*)(#[^)\s]*)?\)")
# What no formula is in: code blocks and code; then a formula by itself, and one in a line.
PARTS = re.compile(r"(```.*?\n```|`[^`\n]+`)|\$\$(.+?)\$\$|(?<![\\\w$])\$(?=\S)([^$]+?)(?<=\S)\$(?![\w$])", re.DOTALL)
MARK = re.compile("\ue000(\\d+)\ue001")  # where a formula goes


def page_of(path):
    """Where a file becomes a page, relative to the site: README is its first page."""
    name = path.relative_to(ROOT).with_suffix(".md").as_posix()
    return {"README.md": "index.md", "data/cats/LICENSE.md": "docs/cats.md"}.get(name, name)


def notebook_text(path):
    """A notebook as Markdown: its texts, and its code in blocks."""
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```"
                       for cell in cells)


def with_formulas(text, formulas):
    """The text with a mark in place of each LaTeX formula; its MathML, which browsers draw, is added to `formulas`."""
    def mark(found):
        if found[1]:
            return found[1]
        latex = re.sub(r"\\arg\s*\\(max|min)", r"\\operatorname{arg\\,\1}", found[2] or found[3])
        formulas.append(convert(latex, display="block" if found[2] else "inline"))
        return f"\ue000{len(formulas) - 1}\ue001"

    return PARTS.sub(mark, text)


def with_links(text, path, pages):
    """The text with links to pages; a link to what is on no page is left as plain text."""
    def link(found):
        if not found[2]:
            return found[0]
        target = (path.parent / found[2]).resolve()
        if target not in pages:
            return found[1]
        there = Path(pages[target])
        up = "../" * (len(Path(pages[path]).parts) - 1)
        return f"[{found[1]}]({up}{there.as_posix()}{found[3] or ''})"

    return LINK.sub(link, text)


def prepare():
    """Write what MkDocs reads, and return the formulas that its pages have marks for."""
    pages = {path: page_of(path) for pattern in TEXTS for path in sorted(ROOT.glob(pattern))
             if path.relative_to(ROOT).as_posix() not in ANSWERS}
    formulas = []
    shutil.rmtree(PAGES, ignore_errors=True)
    for path, page in pages.items():
        text = notebook_text(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
        text = with_formulas(with_links(text, path, pages), formulas).replace("<details>", '<details markdown="1">')
        write_text(PAGES / page, text)
    for path in ROOT.glob("docs/*.png"):
        shutil.copy(path, PAGES / "docs")
    return formulas


def build():
    """Build the site; returns the exit status."""
    formulas = prepare()
    status = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict"], cwd=ROOT,
                            env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}).returncode
    for path in SITE.rglob("*.html"):
        write_text(path, MARK.sub(lambda mark: formulas[int(mark[1])], path.read_text(encoding="utf-8")))
    index = SITE / "search" / "search_index.json"
    write_text(index, MARK.sub("", index.read_text(encoding="utf-8")))
    return status


if __name__ == "__main__":
    sys.exit(build())
