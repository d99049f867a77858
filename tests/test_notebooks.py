"""The notebooks: built from their source, they run as students, instructors and nbgrader run them.

The runs use the preset `smoke`; each solved notebook that is kept in the project was run with `cpu`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from IPython.utils.capture import capture_output
from nbconvert import HTMLExporter

sys.path.insert(0, str(ROOT / "solutions"))
import build  # noqa: E402

from lab3.common.plots import is_figure  # noqa: E402
from lab3.exercises.table import ALL_EXERCISES, EXERCISES  # noqa: E402
from lab3.notebook.lab import USES  # noqa: E402

SOURCES = build.sources()
NUMBERS = [source.stem[:2] for source in SOURCES]
each = pytest.mark.parametrize("source", SOURCES, ids=NUMBERS)


@cache
def kept(source, folder):
    """A notebook of the project. Many tests look at one: none changes it."""
    return nbformat.read(folder / f"{source.stem}.ipynb", as_version=4)


solved = cache(build.solved)


def test_there_are_eight_notebooks():
    assert NUMBERS == [f"{number:02d}" for number in range(8)]
    for folder in (build.STARTERS, build.SOLUTIONS):
        assert sorted(path.stem for path in folder.glob("*.ipynb")) == [source.stem for source in SOURCES]


@each
def test_starters_are_up_to_date(source):
    path = build.STARTERS / f"{source.stem}.ipynb"
    assert path.read_text() == build.text(build.starter(solved(source))), "run make notebooks"


@each
def test_solved_notebooks_are_up_to_date(source):
    assert build.cells(kept(source, build.SOLUTIONS)) == build.cells(solved(source)), "run make notebooks"


def test_a_notebook_that_is_built_alone_finds_the_answers_of_earlier_ones(tmp_path):
    texts = {name: name for name in ALL_EXERCISES}
    (tmp_path / "inpainting.py").write_text("of an earlier build")
    build.earlier_answers("04", texts, tmp_path)
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(
        name for name, one in ALL_EXERCISES.items() if one.notebook in ("01", "02", "03"))
    with pytest.raises(SystemExit, match="03 06"):
        build.earlier_answers("06", texts, tmp_path)
    (tmp_path / "maskgit.safetensors").touch()
    build.earlier_answers("06", texts, tmp_path)


def test_badges_open_the_notebook_where_the_project_is_on_github(monkeypatch):
    monkeypatch.setattr(build, "REPOSITORY", "https://github.com/a-university/lab3.git")
    for source in SOURCES:
        title, badges = build.starter(build.solved(source)).cells[0].source.split("\n\n")[:2]
        path = f"notebooks/{source.stem}.ipynb"
        assert title.startswith("# ") and (ROOT / path).is_file()
        assert f"(https://colab.research.google.com/github/a-university/lab3/blob/HEAD/{path})" in badges
        assert f"(https://mybinder.org/v2/gh/a-university/lab3/HEAD?urlpath=lab/tree/{path})" in badges
    assert build.badges("04", None) == ""


def test_answers_are_exported_from_their_source():
    found = {}
    for source in SOURCES:
        found |= build.answers(solved(source))
    assert found.keys() == ALL_EXERCISES.keys()
    assert sorted(path.stem for path in (ROOT / "solutions" / "work").iterdir()) == sorted(ALL_EXERCISES)
    for name, text in found.items():
        assert (ROOT / "solutions" / "work" / f"{name}.py").read_text() == text, "run make notebooks"


@each
def test_starters_hold_no_answer_and_no_output(source):
    notebook, whole = kept(source, build.STARTERS), solved(source)
    told = "\n".join(cell.source for cell in notebook.cells)
    for cell in whole.cells:
        for answer in re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", cell.source, re.DOTALL):
            assert answer not in told
            assert all(line not in told for line in answer.splitlines() if len(line.strip()) > 40)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
    assert "BEGIN SOLUTION" not in told


@each
def test_every_exercise_has_its_stub_and_its_check(source):
    asked = [name for name, one in ALL_EXERCISES.items() if one.notebook == source.stem[:2]]
    by_id = {cell.id: cell for cell in kept(source, build.STARTERS).cells}
    for name in asked:
        about, check_about = by_id[name].metadata.nbgrader, by_id[f"check-{name}"].metadata.nbgrader
        assert by_id[name].source.startswith(f"#| exercise: {name}\n") and "NotImplementedError" in by_id[name].source
        assert (about.schema_version, about.solution, about.grade, about.locked) == (3, True, False, False)
        points = build.POINTS if name in EXERCISES else 0
        assert (check_about.grade, check_about.locked, check_about.points) == (True, True, points)
    assert {name for name in by_id if name.startswith("check-")} == {f"check-{name}" for name in asked}


@each
def test_solved_notebooks_are_small_and_were_run_without_a_word_of_error(source):
    path = build.SOLUTIONS / f"{source.stem}.ipynb"
    assert path.stat().st_size < 1e6
    notebook, pictures = nbformat.read(path, as_version=4), 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.execution_count is not None
            for output in cell.outputs:
                assert output.output_type != "error"
                assert output.get("name") != "stderr", output.text
                assert "[FAIL]" not in output.get("text", "") and "[TODO]" not in output.get("text", "")
                assert "image/png" not in output.get("data", {}), "a figure without a caption"
                pictures += is_figure(output)
    assert pictures >= 2
    assert notebook.metadata.lab3.preset == "cpu"
    assert str(ROOT) not in path.read_text()


@each
def test_headings_are_in_order_and_columns_have_names(source):
    texts = [cell.source for cell in solved(source).cells if cell.cell_type == "markdown"]
    levels = [len(found) for text in texts for found in re.findall(r"^(#+) ", text, re.MULTILINE)]
    assert levels[0] == 1 and levels.count(1) == 1, "one title"
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:])), levels
    heads = re.findall(r"^(\|.*)\n\|[-| ]+\|$", "\n".join(texts), re.MULTILINE)
    assert not [head for head in heads if not all(cell.strip() for cell in head.strip("|").split("|"))]


def test_pages_of_a_notebook_have_the_texts_of_its_figures():
    """Both ours and those of JupyterLab's own export."""
    notebook = kept(SOURCES[4], build.SOLUTIONS)
    figures = "".join(output.data["text/html"] for cell in notebook.cells for output in cell.get("outputs", [])
                      if is_figure(output))
    page = build.page(notebook, "a title")
    for found in (page, HTMLExporter().from_notebook_node(notebook)[0]):
        for text in (r'<img alt="([^"]+)"', r"<figcaption>(.+)</figcaption>"):
            assert re.findall(text, found) == re.findall(text, figures)
    assert figures.count("<figcaption>") == figures.count("<img alt=") > 3
    assert "<title>a title</title>" in page


def test_together_they_take_less_than_half_an_hour():
    """Also on a slow and busy machine, where 05 and 06 ran last; a quiet one takes less than half of that."""
    graded = [source for source in SOURCES if source.stem[:2] <= "06"]
    assert sum(kept(source, build.SOLUTIONS).metadata.lab3.seconds for source in graded) < 1800


@each
def test_code_fits_the_width_of_a_laptop(source):
    for cell in solved(source).cells:
        if cell.cell_type == "code":
            assert max(map(len, cell.source.splitlines())) <= 100, cell.source


@each
def test_compared_outputs_are_tagged(source):
    tagged = [cell for cell in kept(source, build.SOLUTIONS).cells
              if "nbval-check-output" in cell.metadata.get("tags", [])]
    assert len(tagged) >= 2 and all(cell.outputs for cell in tagged)


@each
def test_a_notebook_is_told_of_the_earlier_answers_that_it_uses(source):
    number = source.stem[:2]
    code = "\n".join(cell.source for cell in solved(source).cells if cell.cell_type == "code")
    earlier = {name for name, one in EXERCISES.items() if one.notebook < number}
    called = {name for name in earlier if re.search(rf"\b{EXERCISES[name].defines}\(", code)}
    assert called <= set(USES.get(number, ())) <= earlier


@each
def test_numbers_in_texts_come_from_the_run(source):
    assert build.NOT_PRINTED not in build.text(kept(source, build.SOLUTIONS)), "nothing above prints a text's number"


def test_a_text_takes_its_number_from_the_nearest_code_above():
    v4 = nbformat.v4
    notebook = v4.new_notebook(cells=[
        v4.new_code_cell("a", outputs=[v4.new_output("stream", text="loss 1.5\n")]),
        v4.new_markdown_cell("⟦loss (\\S+)⟧"),
        v4.new_code_cell("b", outputs=[v4.new_output("stream", text="loss 0.5\n")]),
        v4.new_markdown_cell("from ⟦loss (\\S+)⟧, ⟦share (\\S+)⟧")])
    found = [cell.source for cell in build.with_numbers(notebook, notebook).cells]
    assert found == ["a", "1.5", "b", f"from 0.5, {build.NOT_PRINTED}"]


@each
def test_links_lead_somewhere(source):
    for cell in solved(source).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#\s]+)\)", cell.source):
                assert target.startswith("https://") or (build.STARTERS / target).exists(), target


def outputs(notebook):
    return "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))


@pytest.mark.nightly
def test_the_solved_lab_runs_from_first_to_last_and_gives_its_released_outputs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-cell-timeout", "300", "-p", "no:cacheprovider", "-q",
         "-p", "no:xdist", *(str(build.SOLUTIONS / f"{source.stem}.ipynb") for source in SOURCES)],
        cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"LAB3_WORK": str(tmp_path), "LAB3_PRESET": "smoke", "LAB3_STATIC": "1"})
    assert done.returncode == 0, done.stdout[-6000:]
    assert sorted(path.stem for path in tmp_path.glob("*.py")) == sorted(ALL_EXERCISES)
    assert (tmp_path / "maskgit.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("source", [
    pytest.param(source, id=number, marks=[pytest.mark.nightly] * (number != "04"))
    for source, number in zip(SOURCES[2:], NUMBERS[2:], strict=True)])
def test_a_solved_notebook_runs_alone(source, tmp_path):
    notebook = build.solved(source)
    build.execute(notebook, tmp_path, "smoke")
    said = outputs(notebook)
    assert "is used instead" in said and "[FAIL]" not in said
    assert not any(output.get("name") == "stderr" for cell in notebook.cells for output in cell.get("outputs", []))


@each
def test_a_starter_stops_only_where_an_answer_is_missing(source, shell, tmp_path, monkeypatch):
    """In a shell of this process; the notebook 04 above and those in the browser have a kernel."""
    for name, value in {"LAB3_WORK": str(tmp_path), "LAB3_PRESET": "smoke", "LAB3_STATIC": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(build.STARTERS)
    said, stopped = "", None
    for cell in kept(source, build.STARTERS).cells:
        if cell.cell_type == "code" and stopped is None:
            with capture_output() as captured:
                result = shell.run_cell(cell.source)
            said, stopped = said + captured.stdout, result.error_before_exec or result.error_in_exec
    asked = [name for name, one in ALL_EXERCISES.items() if one.notebook == source.stem[:2]]
    if asked:
        assert isinstance(stopped, NotImplementedError) and f"[TODO] {asked[0]}: not written yet" in said
    else:
        assert source.stem.startswith("00") and stopped is None, stopped
    assert not list(tmp_path.glob("*.py")), "a stub is no answer"


def nbgrader(course, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments], cwd=course, capture_output=True, text=True,
        env=os.environ | {
            "LAB3_WORK": str(course / "work"), "LAB3_PRESET": "smoke",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"})  # nbgrader calls alembic
    return done.returncode, done.stdout + done.stderr


@pytest.mark.nightly
def test_nbgrader_releases_validates_and_grades_the_notebooks_as_they_are(tmp_path):
    """An instructor's course folder: released from the solved notebooks, one solved and one untouched submission."""
    chosen = [source for source in SOURCES if source.stem[:2] == "04"]
    (tmp_path / "nbgrader_config.py").write_text(
        "c = get_config()\nc.CourseDirectory.course_id = 'lab3'\nc.ExecutePreprocessor.timeout = 300\n"
        "c.ClearSolutions.code_stub = {'python': 'raise NotImplementedError  # your code here'}\n")
    for source in chosen:
        for folder, origin in (("source", build.SOLUTIONS), ("submitted/solved", build.SOLUTIONS),
                               ("submitted/untouched", build.STARTERS)):
            target = tmp_path / folder / "lab3"
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin / f"{source.stem}.ipynb", target)

    code, said = nbgrader(tmp_path, "generate_assignment", "lab3")
    assert code == 0, said
    for source in chosen:
        released = nbformat.read(tmp_path / "release" / "lab3" / f"{source.stem}.ipynb", as_version=4)
        assert [cell.source for cell in released.cells] == [cell.source for cell in kept(source, build.STARTERS).cells]

    code, said = nbgrader(tmp_path, "validate", *(f"submitted/solved/lab3/{source.stem}.ipynb" for source in chosen))
    assert code == 0 and said.count("Success! Your notebook passes all the tests.") == len(chosen), said

    code, said = nbgrader(tmp_path, "autograde", "lab3")
    assert code == 0, said
    for source in chosen:
        solved = nbformat.read(tmp_path / "autograded" / "solved" / "lab3" / f"{source.stem}.ipynb", as_version=4)
        assert build.cells(solved)[0] == build.cells(kept(source, build.SOLUTIONS))[0]
        assert [cell.id for cell in solved.cells] == [cell.id for cell in kept(source, build.SOLUTIONS).cells]

    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as book:
        solved, untouched = (book.find_submission("lab3", student) for student in ("solved", "untouched"))
        assert solved.score == solved.max_score == build.POINTS
        assert untouched.score == 0


def test_metadata_is_valid_for_nbgrader():
    from nbgrader.preprocessors import CheckCellMetadata

    for source in SOURCES:
        for folder in (build.STARTERS, build.SOLUTIONS):
            CheckCellMetadata().preprocess(kept(source, folder), {})


def test_starters_are_plain_json_of_the_current_format():
    for source in SOURCES:
        raw = json.loads((build.STARTERS / f"{source.stem}.ipynb").read_text())
        assert (raw["nbformat"], raw["nbformat_minor"]) == (4, 5)
        assert raw["metadata"]["kernelspec"]["name"] == "python3"
        assert len({cell["id"] for cell in raw["cells"]}) == len(raw["cells"])


@each
def test_exercises_say_how_long_and_how_hard_and_begin_softly(source):
    """Before each exercise an ungraded first step with its own check; minutes, difficulty, hints up to an outline."""
    cells = solved(source).cells
    for place, cell in enumerate(cells):
        if cell.id in ALL_EXERCISES:
            about = cells[place - 1].source
            assert re.search(r"\*About \d+ minutes, (easy|medium|hard)\.\*", about), cell.id
            assert re.search(r"<summary>Hint \d: an outline</summary>", about), cell.id
            before = [one.source for one in cells[max(0, place - 4):place - 1]]
            assert build.MARKERS[0] in before[-2] and "practice(" in before[-1], cell.id
            assert "## First step" in before[-3] and "not graded" in before[-3], cell.id


@each
def test_each_notebook_goes_further_with_two_tasks(source):
    cells = solved(source).cells
    begin = next(place for place, cell in enumerate(cells) if "## Go further" in cell.source)
    code = [cell.source for cell in cells[begin:] if cell.cell_type == "code"]
    assert len([text for text in code if build.MARKERS[0] in text]) == 2
    assert len([text for text in code if "practice(" in text]) == 2
    told = "\n".join(cell.source for cell in cells[begin:] if cell.cell_type == "markdown")
    assert len(re.findall(r"\(\*\d+ minutes, (easy|medium|hard)\*\)", told)) == 2
