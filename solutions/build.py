r"""Builds everything that students and instructors get from the one source, `solutions/source/NN_name.py`.

In: jupytext sources with nbgrader's solution markers, and `elsewhere.md`, what the first cell of each says about other
places to run it. Out: starters in `notebooks/`, the same notebooks solved and run in `solutions/`, the answers alone in
`solutions/work/`. A number that a text takes from the run is written as a pattern, such as ⟦floor +([\d.]+)⟧.

    python solutions/build.py           # all of it; a solved notebook runs again only where its code has changed
    python solutions/build.py 05 06     # run these again in any case
    python solutions/build.py --all     # run all again
    python solutions/build.py --no-run  # what can be built without running a notebook
    python solutions/build.py --html DIR  # the solved notebooks as pages that screen readers can read; builds nothing
"""

import argparse
import base64
import copy
import os
import re
import time
import tomllib
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbconvert.preprocessors.coalescestreams import CoalesceStreamsPreprocessor
from nbgrader.preprocessors import CheckCellMetadata, ClearOutput, ClearSolutions, ComputeChecksums, LockCells

from lab3.common.files import write_text
from lab3.common.paths import WEIGHTS
from lab3.common.plots import is_figure, with_colours
from lab3.exercises.answers import answer_file, exercise_of
from lab3.exercises.table import ALL_EXERCISES, EXERCISES

ROOT = Path(__file__).resolve().parent.parent
SOLUTIONS, STARTERS = ROOT / "solutions", ROOT / "notebooks"
SCRATCH = ROOT / "out" / "notebooks"  # the `work/` of the solved notebooks' runs
MARKERS = ("### BEGIN SOLUTION", "### END SOLUTION")
STUB = {"python": "raise NotImplementedError  # your code here"}
POINTS = 5  # a check, for those who grade with nbgrader; that of an optional exercise is worth none
CHECK = re.compile(r"lab\.check\(\"(\w+)\"\)")
FROM_RUN = re.compile(r"⟦(.+?)⟧")  # in a text: a pattern whose group is a number that code above has printed
PNG = re.compile(r"(?<=data:image/png;base64,)[\w+/=]+")
NOT_PRINTED = "⟦not printed⟧"
# Where the project is on GitHub, for the badges that open a notebook elsewhere; None: no badges.
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT.get("urls", {}).get("Repository")


def sources():
    """The sources, in order."""
    return sorted((SOLUTIONS / "source").glob("[0-9][0-9]_*.py"))


def solved(source):
    """The notebook of a source, answers included, with cell ids and nbgrader's metadata, not run.

    Numbers that its texts take from a run are those of the kept solved notebook.
    """
    notebook, kept = _notebook(source), SOLUTIONS / f"{source.stem}.ipynb"
    return with_numbers(notebook, nbformat.read(kept, as_version=4)) if kept.is_file() else notebook


def with_numbers(notebook, ran):
    """The notebook with the numbers that its texts take from a run: what the nearest code above has printed.

    Args:
        notebook: its texts hold patterns.
        ran: the same notebook, run.
    """
    notebook, above = copy.deepcopy(notebook), 0
    printed = ["".join(_printed(output) for output in cell.outputs) for cell in ran.cells if cell.cell_type == "code"]
    for cell in notebook.cells:
        above += cell.cell_type == "code"
        if cell.cell_type == "markdown":
            cell.source = FROM_RUN.sub(lambda mark: _last_printed(mark[1], printed[:above]), cell.source)
    return notebook


def _last_printed(pattern, printed):
    found = (re.search(pattern, text, re.MULTILINE) for text in reversed(printed))
    return next((one[1] for one in found if one), NOT_PRINTED)


def _printed(output):
    """The text of a cell's output."""
    return output.get("text") or output.get("data", {}).get("text/markdown", "")


def badges(stem, repository):
    """Badges that open a notebook on Colab and on Binder, as Markdown; empty without a repository's address."""
    if not repository:
        return ""
    place = repository.removeprefix("https://github.com/").removesuffix(".git").strip("/")
    path = f"notebooks/{stem}.ipynb"
    return (f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
            f"(https://colab.research.google.com/github/{place}/blob/HEAD/{path}) "
            f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]"
            f"(https://mybinder.org/v2/gh/{place}/HEAD?urlpath=lab/tree/{path})\n\n")


def _notebook(source):
    """The notebook of a source, with patterns in place of numbers from a run."""
    notebook = jupytext.read(source)
    title, rest = notebook.cells[0].source.split("\n\n", 1)
    notebook.cells[0].source = f"{title}\n\n{badges(source.stem, REPOSITORY)}{rest}"
    notebook.cells[0].source += f"\n\n{(source.parent / 'elsewhere.md').read_text(encoding='utf-8').rstrip()}"
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"}}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for place, cell in enumerate(notebook.cells):
        cell.id = f"{source.stem[:2]}-{place:02d}"
        cell.metadata.pop("lines_to_next_cell", None)  # jupytext's own, of no use to anybody else
        _mark(cell)
    return notebook


def _mark(cell):
    """Give a cell the id and the nbgrader metadata of its kind: an answer, its check, or a practice cell."""
    if cell.cell_type != "code":
        return
    name, check = exercise_of(cell.source), CHECK.match(cell.source)
    kind = {"schema_version": 3, "grade": False, "solution": False, "locked": False, "task": False}
    if name:
        cell.id = name
        cell.metadata["nbgrader"] = kind | {"grade_id": name, "solution": True}
    elif check:
        cell.id = f"check-{check[1]}"
        points = POINTS if check[1] in EXERCISES else 0
        cell.metadata["nbgrader"] = kind | {"grade_id": cell.id, "grade": True, "locked": True, "points": points}
    elif MARKERS[0] in cell.source:
        cell.metadata["nbgrader"] = kind | {"grade_id": f"practice-{cell.id}", "solution": True}


def starter(notebook):
    """What students get: the notebook with its answers cut out and no outputs."""
    notebook, resources = copy.deepcopy(notebook), {}
    steps = (LockCells(), ClearSolutions(code_stub=STUB), ClearOutput(), CheckCellMetadata(), ComputeChecksums())
    for step in steps:
        notebook, resources = step.preprocess(notebook, resources)
    return notebook


def answers(notebook):
    """The answers of a notebook: a dict, exercise id -> the text of its file."""
    found = {}
    for cell in notebook.cells:
        name = exercise_of(cell.source) if cell.cell_type == "code" else None
        if name:
            lines = [line for line in cell.source.splitlines() if line.strip() not in MARKERS]
            found[name] = answer_file("\n".join(lines))
    return found


def execute(notebook, work, preset):
    """Run a notebook as a student would, with its answers in `work`; its outputs go into it, also where it stops."""
    client = NotebookClient(notebook, timeout=1800, kernel_name="python3", record_timing=False,
                            resources={"metadata": {"path": str(STARTERS)}})
    client.execute(env=os.environ | {"LAB3_WORK": str(work), "LAB3_PRESET": preset, "LAB3_STATIC": "1"})


def run(notebook, work, preset="cpu"):
    """A notebook with the outputs of a run, as it is kept."""
    notebook, began = copy.deepcopy(notebook), time.perf_counter()
    execute(notebook, work, preset)
    notebook, _ = CoalesceStreamsPreprocessor().preprocess(notebook, {})
    for cell in notebook.cells:
        for output in filter(is_figure, cell.get("outputs", [])):
            output.data["text/html"] = PNG.sub(_fewer_colours, output.data["text/html"])
            output.data.pop("image/png", None)  # the same figure, for exports that take no HTML
    notebook.metadata["lab3"] = {"preset": preset, "seconds": round(time.perf_counter() - began)}
    return notebook


def _fewer_colours(found):
    return base64.b64encode(with_colours(base64.b64decode(found[0]), 128)).decode()


def cells(notebook):
    """What a notebook says, its outputs aside."""
    return [(cell.id, cell.cell_type, cell.source, dict(cell.metadata)) for cell in notebook.cells]


def text(notebook):
    """A notebook as it is written to a file."""
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def earlier_answers(number, texts, work):
    """Leave in `work` the answers of the notebooks before this one, as a student has them then, and no others.

    Raises:
        SystemExit: notebook 06 needs the model that 03 trains, and `work` has none.
    """
    work.mkdir(parents=True, exist_ok=True)
    for name, answer in texts.items():
        if ALL_EXERCISES[name].notebook < number:
            write_text(work / f"{name}.py", answer)
        else:
            (work / f"{name}.py").unlink(missing_ok=True)
    if number == "06" and not (work / WEIGHTS).is_file():
        raise SystemExit("06 shows the model that 03 trains, and there is none: python solutions/build.py 03 06")


def build(again=(), may_run=True):
    """Build everything.

    Args:
        again: numbers of notebooks to run in any case.
        may_run: False keeps a solved notebook as it is where it would have to run, and says so.
    """
    found, notebooks = {}, {source: _notebook(source) for source in sources()}
    for source, notebook in notebooks.items():
        write_text(STARTERS / f"{source.stem}.ipynb", text(starter(solved(source))))
        found |= answers(notebook)
    assert found.keys() == ALL_EXERCISES.keys(), found.keys() ^ ALL_EXERCISES.keys()
    for name, answer in found.items():
        write_text(SOLUTIONS / "work" / f"{name}.py", answer)
    for source, notebook in notebooks.items():
        path = SOLUTIONS / f"{source.stem}.ipynb"
        if source.stem[:2] in again or not (path.is_file() and _take_outputs(notebook, path)):
            if not may_run:
                print(f"{path.relative_to(ROOT)}: has to run", flush=True)
                continue
            earlier_answers(source.stem[:2], found, SCRATCH)
            notebook = run(notebook, SCRATCH)
            print(f"{path.relative_to(ROOT)}: {notebook.metadata.lab3.seconds} s", flush=True)
        numbered = with_numbers(notebook, notebook)
        write_text(path, text(numbered))
        write_text(STARTERS / f"{source.stem}.ipynb", text(starter(solved(source))))
        if NOT_PRINTED in text(numbered):
            print(f"{source.relative_to(ROOT)}: a text takes a number that nothing above it has printed", flush=True)


def page(notebook, title):
    """A notebook as an HTML page whose text has a contrast of 4.5 to 1 or more."""
    exporter = HTMLExporter(template_name="accessible", extra_template_basedirs=[str(SOLUTIONS)])
    return exporter.from_notebook_node(notebook, {"metadata": {"name": title}})[0]


def _take_outputs(notebook, path):
    """Take over the outputs of an earlier run; False where its code was another."""
    earlier = nbformat.read(path, as_version=4)
    old, new = ([cell for cell in one.cells if cell.cell_type == "code"] for one in (earlier, notebook))
    if [cell.source for cell in old] != [cell.source for cell in new]:
        return False
    for before, now in zip(old, new):
        now.outputs, now.execution_count = before.outputs, before.execution_count
    notebook.metadata["lab3"] = earlier.metadata["lab3"]
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("numbers", nargs="*", metavar="NN", help="notebooks to run again in any case")
    parser.add_argument("--all", action="store_true", help="run all again")
    parser.add_argument("--no-run", action="store_true", help="build only what needs no run")
    parser.add_argument("--html", type=Path, metavar="DIR", help="write the solved notebooks as pages; build nothing")
    options = parser.parse_args()
    if options.html:
        for path in sorted(SOLUTIONS.glob("[0-9]*.ipynb")):
            write_text(options.html / f"{path.stem}.html", page(nbformat.read(path, as_version=4), path.stem))
        raise SystemExit
    build([source.stem[:2] for source in sources()] if options.all else options.numbers, not options.no_run)
