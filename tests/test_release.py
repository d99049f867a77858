"""What students get: everything that they need, nothing that they must not see, and an update that keeps their work."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

from grader.cli import main
from grader.export import release
from lab3.common.files import InputError
from lab3.exercises.table import EXERCISES, OPTIONAL

# Lines of answers that the given package or its checks hold too: training a tokenizer, calling an answer.
EVERYDAY = {"optimizer.zero_grad(set_to_none=True)", "n_hidden=mask.sum(dim=1)", "loss=mvtm_loss(logits,targets,mask)"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A release, made by the command."""
    out = tmp_path_factory.mktemp("release")
    assert main(["release", str(out)]) == 0
    [found] = out.glob("*.zip")
    return found


@pytest.fixture
def folder(archive, tmp_path):
    """A release as a student has it: unpacked."""
    return unpacked(archive, tmp_path)


def unpacked(archive, place):
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(place)
    return place / archive.stem


def texts(folder):
    """Every file in a folder, name -> all text in it without spaces."""
    return {path.relative_to(folder).as_posix(): release.seen_text(path.name, path.read_bytes())
            for path in folder.rglob("*") if path.is_file()}


def code_lines(path):
    """The lines of a file without their comments and spaces, those long enough to be recognised."""
    lines = (release.squeezed(re.sub(r"\s#.*", "", line)) for line in path.read_text().splitlines())
    return {line for line in lines if len(line) >= 20}


def test_no_line_of_an_answer_or_a_probe_is_in_it(folder):
    files = texts(folder)
    starters = "".join(text for name, text in files.items() if name.startswith("notebooks/"))
    given = release.squeezed("".join(path.read_text() for path in (ROOT / "lab3").rglob("*.py")))
    table = code_lines(ROOT / "lab3" / "exercises" / "table.py")
    imports = {line for line in table if line.startswith(("import", "from"))}
    imports |= {release.squeezed(f"from lab3.{module} import {name}") for module, name in (
        ("exercises.fallbacks", "TorchAttention"), ("decoding.cached", "CachedTransformer"))}
    for path in [*ROOT.glob("solutions/work/*.py"), *ROOT.glob("solutions/fast/*.py")]:
        lines = {line for line in code_lines(path) - imports - EVERYDAY if line not in starters}
        assert lines, path
        for name, text in files.items():
            assert not [line for line in lines if line in text], (path, name)
    for path in ROOT.glob("grader/probes/*.py"):
        secret = {line for line in code_lines(path) if line not in given + starters and len(line) >= 40}
        for name, text in files.items():
            assert not [line for line in secret if line in text], (path, name)


def test_nothing_of_the_instructors_is_in_it(folder):
    for name, text in texts(folder).items():
        parts = set(Path(name).parts)
        assert not parts & {"grader", "probes", "solutions", "tests", "benchmarks", "docs", ".git", ".ci"}, name
        assert not any(part.startswith(".") or part == "__pycache__" for part in parts), name
        assert "HIDDENTESTS" not in text, name
        if name.endswith(".ipynb"):
            assert "###BEGINSOLUTION" not in text, name
    for path in folder.glob("notebooks/*.ipynb"):
        assert not any(cell.get("outputs") for cell in json.loads(path.read_text())["cells"]), path


def test_every_answer_would_be_recognised():
    assert set(release.answer_parts().values()) == {*EXERCISES, *OPTIONAL}


def test_its_checksums_are_right_and_name_every_file(archive, folder):
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {path for path in texts(folder)} - {"SHA256SUMS"}
    assert all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == wanted for name, wanted in sums.items())
    said = archive.with_name(f"{archive.name}.sha256").read_text()
    assert said == f"{hashlib.sha256(archive.read_bytes()).hexdigest()}  {archive.name}\n"


def test_the_same_project_gives_the_same_zip(archive, tmp_path):
    assert release.release(tmp_path).read_bytes() == archive.read_bytes()


def test_a_version_is_never_released_twice_with_different_content(archive, tmp_path, capsys):
    (tmp_path / archive.name).write_bytes(b"another")
    assert main(["release", str(tmp_path)]) == 2
    assert "Raise the version in pyproject.toml" in capsys.readouterr().err
    assert (tmp_path / archive.name).read_bytes() == b"another"


def project(place):
    """A copy of what a release is made of, without the weights."""
    place.mkdir()
    for name in ("notebooks", "solutions/work", "solutions/source", "lab3"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt", "LICENSE"):
        shutil.copy(ROOT / name, place / name)
    return place


@pytest.mark.parametrize("where", ["source", "outputs", "metadata"])
def test_an_answer_in_a_starter_is_refused(tmp_path, where):
    root = project(tmp_path / "project")
    path = root / "notebooks" / "05_iterative_decoding.ipynb"
    notebook, answer = json.loads(path.read_text()), (ROOT / "solutions/work/inpainting.py").read_text()
    cell = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    cell[where] = {"source": answer, "outputs": [{"output_type": "stream", "name": "stdout", "text": [answer]}],
                   "metadata": {"note": answer}}[where]
    release.collect(root)
    path.write_text(json.dumps(notebook))
    with pytest.raises(InputError, match=r"05_iterative_decoding\.ipynb: holds a part of the reference answer"):
        release.collect(root)


def run(folder, *command, **environment):
    """Run a command in the student's folder; only what is there is found."""
    environment = os.environ | environment
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=environment)


def test_its_self_check_names_what_is_right_and_what_is_not(folder):
    (folder / "work").mkdir()
    for name in ("sample_mask", "gamma_func"):
        shutil.copy(ROOT / "solutions" / "work" / f"{name}.py", folder / "work")
    wrong = (folder / "work" / "gamma_func.py").read_text().replace("r**2", "r**3")
    (folder / "work" / "gamma_func.py").write_text(wrong)
    done = run(folder, sys.executable, "-m", "lab3", "check")
    assert done.returncode == 1 and not done.stderr
    assert "[OK]   sample_mask" in done.stdout and "[FAIL] gamma_func" in done.stdout
    assert "[TODO] inpainting" in done.stdout and "1 of 11 answers pass" in done.stdout


def test_a_notebook_starts_in_it_and_finds_its_own_package(folder):
    code = "import lab3; print(lab3.__file__); lab = lab3.start('05'); print(lab.shipped().__class__.__name__)"
    done = run(folder, sys.executable, "-c", code, LAB3_WORK="")
    assert done.returncode == 0, done.stderr
    assert str(folder / "lab3" / "__init__.py") in done.stdout and "BidirectionalTransformer" in done.stdout


@pytest.mark.parametrize(("command", "said"), [
    (("demo",), "Begin with notebook 00"),
    (("inpaint", "--out", "filled"), "no answer to multi_head_attention yet")])
def test_commands_that_need_answers_say_where_they_come_from(folder, command, said):
    done = run(folder, sys.executable, "-m", "lab3", *command)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.nightly
def test_make_sets_it_up_and_lab_and_check_run(folder, tmp_path):
    """Packages come from the environment that runs the tests: pip finds them there, and no network is needed.

    What the shell sets for another Python is left out.
    """
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "pip.py").write_text("raise SystemExit('of another Python')")
    (folder / "work").mkdir()
    for path in (ROOT / "solutions" / "work").glob("*.py"):
        shutil.copy(path, folder / "work")
    venv.create(folder / ".venv")
    [place] = (folder / ".venv").glob("lib/python*/site-packages")
    (place / "here.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("site-packages")))
    found = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_USER": "1", "PYTHONPATH": str(foreign)}
    done = run(folder, "make", "check", f"PYTHON={sys.executable}", **found)
    assert done.returncode == 0, done.stderr
    assert "11 of 11 answers pass" in done.stdout
    settings, python = run(folder, "make", "-n", "lab", **found).stdout.split()[:2]
    assert settings == "JUPYTER_CONFIG_PATH=lab3/notebook/jupyter" and python == ".venv/bin/python"
    (folder / "work" / "gamma_func.py").unlink()
    done = run(folder, "make", "check", PYTHONPATH="")
    assert done.returncode == 0 and "10 of 11 answers pass" in done.stdout and "Error" not in done.stderr, done.stderr
    listed = run(folder, ".venv/bin/python", "-m", "jupyterlab", "--version", PYTHONPATH="")
    assert listed.returncode == 0 and (folder / "notebooks").is_dir()


def newer(folder, place, **changes):
    """A copy of a release under the next version, with changes: name -> bytes, or None for a file that is gone."""
    new = shutil.copytree(folder, place)
    (new / "VERSION").write_text("0.2.0\n")
    for name, content in changes.items():
        if content is None:
            (new / name).unlink()
        else:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(content)
    files = sorted(path for path in new.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    (new / "SHA256SUMS").write_text("".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(new).as_posix()}\n" for path in files))
    return new


def update(new, old):
    return run(old, sys.executable, str(new / "update.py"), str(old))


THIRD, FOURTH = "notebooks/03_training.ipynb", "notebooks/04_gamma_schedules.ipynb"


@pytest.fixture
def worked_in(archive, tmp_path):
    """A student's folder: two notebooks changed, an answer, a model, and a line in the package."""
    old = unpacked(archive, tmp_path / "mine")
    for name in (THIRD, FOURTH):
        (old / name).write_bytes((old / name).read_bytes() + b"\n")
    for name, content in {"work/gamma_func.py": b"mine", "work/maskgit.safetensors": b"weights",
                          "notebooks/trials.ipynb": b"{}", "lab3/common/plots.py": b"# mine"}.items():
        (old / name).parent.mkdir(exist_ok=True)
        (old / name).write_bytes(content)
    return old


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_update_keeps_what_the_student_made(worked_in, folder, tmp_path):
    new = newer(folder, tmp_path / "new", **{
        THIRD: b"new starter", "notebooks/05_iterative_decoding.ipynb": b"new 05", "lab3/common/plots.py": b"new plots",
        "lab3/training/fit.py": b"new fit", "lab3/extra.py": b"extra", "lab3/report/pdf.py": None})
    before = contents(worked_in)
    done = update(new, worked_in)
    assert done.returncode == 0, done.stderr
    after = contents(worked_in)
    for name in (THIRD, FOURTH, "work/gamma_func.py", "work/maskgit.safetensors", "notebooks/trials.ipynb"):
        assert after[name] == before[name], name
    assert after["notebooks/03_training-0.2.0.ipynb"] == b"new starter"
    assert after["notebooks/05_iterative_decoding.ipynb"] == b"new 05" and after["lab3/training/fit.py"] == b"new fit"
    assert after["lab3/common/plots.py"] == b"new plots" and after["lab3/common/plots.py.yours"] == b"# mine"
    assert after["lab3/extra.py"] == b"extra" and "lab3/report/pdf.py" not in after
    assert "03_training.ipynb: yours stays" in done.stdout and "plots.py.yours" in done.stdout
    assert "04_gamma" not in done.stdout, "its starter did not change"
    assert f"{folder.name.removeprefix('lab3-')} -> 0.2.0" in done.stdout
    again = update(new, worked_in)
    assert again.returncode == 0 and contents(worked_in) == after, "a second time changes nothing"


def test_an_update_that_was_stopped_goes_on(worked_in, folder, tmp_path):
    new = newer(folder, tmp_path / "new", **{
        THIRD: b"new starter", "lab3/training/fit.py": b"new fit", "lab3/common/plots.py": b"p"})
    (worked_in / "pyproject.toml").unlink()
    (worked_in / "pyproject.toml").mkdir()  # cannot be written: in the order of names, much is done before it
    assert update(new, worked_in).returncode == 1
    (worked_in / "pyproject.toml").rmdir()
    assert update(new, worked_in).returncode == 0
    after = contents(worked_in)
    assert after["lab3/training/fit.py"] == b"new fit" and after["lab3/common/plots.py.yours"] == b"# mine"
    assert after["notebooks/03_training-0.2.0.ipynb"] == b"new starter" and after["VERSION"] == b"0.2.0\n"
    assert {name for name in after if "yours" in name} == {"lab3/common/plots.py.yours"}


@pytest.mark.parametrize("damage", [
    lambda new: (new / "lab3" / "training" / "fit.py").write_bytes(b"cut"),
    lambda new: (new / "lab3" / "training" / "fit.py").unlink(),
    lambda new: (new / "SHA256SUMS").write_text("x"), lambda new: (new / "SHA256SUMS").unlink(),
    lambda new: (new / "SHA256SUMS").write_text(f"{'0' * 64}  ../out.py\n"),
    lambda new: (new / "SHA256SUMS").write_text(f"{'0' * 64}  work/gamma_func.py\n")])
def test_a_damaged_release_changes_nothing(worked_in, folder, tmp_path, damage):
    new = newer(folder, tmp_path / "new", **{"lab3/data/audit.py": b"new"})
    damage(new)
    before = contents(worked_in)
    done = update(new, worked_in)
    assert done.returncode == 1 and done.stderr.startswith("update: ") and len(done.stderr.splitlines()) == 1
    assert contents(worked_in) == before


def test_an_update_of_no_students_folder_is_refused(folder, tmp_path):
    for wrong in (tmp_path / "gone", tmp_path, folder):
        done = run(tmp_path, sys.executable, str(folder / "update.py"), str(wrong))
        assert done.returncode == 1 and "name the folder that you work in" in done.stderr
