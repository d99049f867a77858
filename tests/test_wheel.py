"""The wheels: complete, the students' without answers and probes, and a lab where they are installed."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from browsing import open_notebook, run_all, serving
from conftest import ROOT
from playwright.sync_api import expect
from test_browser import reference, type_answer

import lab3
from grader.export.release import MADE_BY, answer_parts, seen_text

PROJECTS = {name: tomllib.loads((ROOT / name / "pyproject.toml").read_text()) for name in (".", "grader")}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Both wheels, the students' first, built from a copy: setuptools leaves files where it builds."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for name in ("lab3", "grader", "data", "notebooks", "solutions"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip("wheel", "--no-build-isolation", "-w", out, source, source / "grader")
    return [next(out.glob(f"{name}-*.whl")) for name in ("maskgit_lab", "maskgit_lab_grader")]


def pip(command, *arguments):
    done = subprocess.run([sys.executable, "-m", "pip", command, "--quiet", "--no-deps", "--no-index",
                           "--disable-pip-version-check", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def contents(wheel):
    with zipfile.ZipFile(wheel) as packed:
        return {name: packed.read(name) for name in packed.namelist() if ".dist-info/" not in name}


def files(folder, *patterns):
    return {path for pattern in patterns for path in (ROOT / folder).rglob(pattern)
            if path.is_file() and not any(part.startswith((".", "__")) or part.endswith(".egg-info")
                                         for part in path.parts[len(ROOT.parts):-1])}


def places(found, start, place):
    return {f"{place}/{path.relative_to(ROOT / start).as_posix()}" for path in found}


def test_the_students_wheel_holds_all_that_they_need_and_no_more(wheels):
    data = {path for path in files("data", "*") if path.name not in MADE_BY}
    kinds = ("*.py", "*.html", "*.js", "*.css", "*.json", "*.ipynb", "*.j2", "*.wasm", "*.wat")
    wanted = places(files("lab3", *kinds), "lab3", "lab3")
    wanted |= places(data, "data", "lab3/kit/data")
    wanted |= places(files("notebooks", "*.ipynb"), "notebooks", "lab3/kit/notebooks")
    assert contents(wheels[0]).keys() == wanted


def test_the_students_wheel_holds_no_answer(wheels):
    parts = answer_parts()
    for name, content in contents(wheels[0]).items():
        text = seen_text(name, content)
        assert not [exercise for part, exercise in parts.items() if part in text], name


def test_the_graders_wheel_holds_grader_and_answers(wheels):
    wanted = places({path for path in files("grader", "*") if path.suffix not in (".toml", ".pyc")}, "grader", "grader")
    for name in ("work", "fast"):
        wanted |= places(files(f"solutions/{name}", "*.py"), "solutions", "grader/solutions")
    assert contents(wheels[1]).keys() == wanted


def test_the_installed_project_is_found_from_any_folder(tmp_path):
    found = subprocess.run([sys.executable, "-c", "import grader, lab3; print(grader.__file__, lab3.__file__)"],
                           cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True)
    assert found.stdout.split() == [str(ROOT / "grader" / "__init__.py"), str(ROOT / "lab3" / "__init__.py")]


def test_both_distributions_have_one_version():
    first, second = (project["project"] for project in PROJECTS.values())
    assert first["version"] == second["version"] == lab3.__version__
    assert second["dependencies"] == [f"{first['name']}[grader]=={first['version']}"]
    assert first["requires-python"] == second["requires-python"]


@pytest.fixture
def installed(wheels, tmp_path):
    """A folder that the students' wheel is installed in, and an empty one to work in."""
    site, folder = tmp_path / "Größe und Übung" / "Pakete", tmp_path / "Größe und Übung" / "Mein Labor"
    pip("install", "--target", site, wheels[0])
    folder.mkdir()
    return site, folder


def run(site, folder, *arguments, before=()):
    """Run `python -m lab3` as installed in `site`, in a folder."""
    environment = {name: value for name, value in os.environ.items() if name != "LAB3_WORK"} | {"PYTHONPATH": str(site)}
    return subprocess.run([*map(str, before), sys.executable, "-m", "lab3", *arguments], cwd=folder, env=environment,
                          capture_output=True, text=True, encoding="utf-8", timeout=300)


@pytest.mark.slow
def test_an_installed_package_works_in_the_current_folder(installed):
    site, folder = installed
    (folder / "work").mkdir()
    (folder / "work" / "gamma_func.py").write_text((ROOT / "solutions" / "work" / "gamma_func.py").read_text())
    before = sorted(path.name for path in site.iterdir())
    done = run(site, folder, "check")
    assert done.returncode == 1 and "[OK]   gamma_func" in done.stdout and "1 of 11" in done.stdout, done.stderr
    done = run(site, folder, "demo")
    assert done.returncode == 2 and "your own answers" in done.stderr and str(folder / "work") in done.stderr
    assert sorted(path.name for path in site.iterdir()) == before and not (site / "work").exists()


@pytest.mark.nightly
@pytest.mark.parametrize("read_only", [False, True], ids=["writable", "read-only"])
def test_a_student_answers_an_exercise_in_the_browser_and_check_finds_it(installed, tmp_path, page, read_only):
    site, folder = installed
    lock = ["bwrap", "--die-with-parent", "--dev-bind", "/", "/", "--ro-bind", site, site, "--"] if read_only else []
    if read_only and not shutil.which("bwrap"):
        pytest.skip("no bubblewrap on this machine")
    name = "04_gamma_schedules.ipynb"
    command = [*lock, sys.executable, "-m", "lab3", "lab", "--no-browser", "--jupyter"]
    with serving(tmp_path, command, folder, PYTHONPATH=str(site), LAB3_WORK="") as address:
        assert len(list(folder.glob("0?_*.ipynb"))) == 8 and (folder / "work").is_dir()
        open_notebook(page, address, name)
        expect(page.locator(".jp-DirListing-item", has_text=re.compile("^work"))).to_be_visible()
        type_answer(page, "gamma_func", reference("gamma_func"))
        run_all(page)
        expect(page.locator(".jp-OutputArea-output").filter(has_text="[OK]   gamma_func")).to_be_visible()
    assert (folder / "work" / "gamma_func.py").is_file()
    done = run(site, folder, "check", before=lock)
    assert "[OK]   gamma_func" in done.stdout and "1 of 11 answers" in done.stdout, done.stderr
    mine = (folder / name).read_bytes()
    from_start = subprocess.run(
        [sys.executable, "-c", "from lab3.notebook.serve import prepare; prepare()"], cwd=folder, text=True,
        env=os.environ | {"PYTHONPATH": str(site), "LAB3_WORK": ""}, capture_output=True)
    assert "stay as they are" in from_start.stdout and (folder / name).read_bytes() == mine, from_start.stderr


def test_an_installed_grader_says_what_needs_the_project(tmp_path, monkeypatch):
    from grader.export import gradescope, release
    from lab3.common.files import InputError

    for make in (release.release, gradescope.export):
        with pytest.raises(InputError, match="needs the project itself"):
            make(tmp_path / "out", root=Path(tmp_path))
