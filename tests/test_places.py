"""The places where the lab runs: a container, Binder, a dev container, GitHub Actions, Colab and Kaggle.

What their files name exists, their scripts are right as far as a shell can tell, and the note in each notebook's first
cell does what it says.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import urllib.parse
import venv
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import nbformat
import pytest
import yaml
from conftest import ROOT
from jupyter_client.manager import KernelManager
from packaging.specifiers import SpecifierSet
from traitlets.config import Config

from grader.export import release
from grader.submission.submission import opened
from lab3.cli import make_parser
from lab3.common.paths import work_folder
from lab3.exercises.answers import exercise_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOTE = (ROOT / "solutions" / "source" / "elsewhere.md").read_text()
[CODE] = re.findall(r"```\n(.*?)```", NOTE, re.DOTALL)  # what the note says to run
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text() + (ROOT / "lab.mk").read_text(), re.MULTILINE))
DEVCONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
CI, PAGES = (yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text()) for name in ("ci.yml", "pages.yml"))
STEPS = [step for job in CI["jobs"].values() for step in job["steps"]]
HUB = (ROOT / "docs" / "HUB.md").read_text()
[LINK] = re.findall(r"^http://127\S+git-pull\?(\S+)$", HUB, re.MULTILINE)  # the query of what students follow


def dockerfile():
    """The instructions of the Dockerfile: [(NAME, rest), ...], comments aside."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def of(name):
    return [rest for instruction, rest in dockerfile() if instruction == name]


def stages():
    """A dict, stage -> what it begins with; the last one has no name."""
    return {stage or "": base for base, stage in re.findall(r"^(\S+)(?: AS (\w+))?$", "\n".join(of("FROM")), re.M)}


def allowed(version):
    return SpecifierSet(PROJECT["requires-python"]).contains(version)


def assert_make(command):
    """Every `make` in a command names a target that exists, and what it installs does too."""
    for target in re.findall(r"\bmake ([a-z]+)", command):
        assert target in TARGETS, command
    for extras in re.findall(r"\.\[([a-z,]+)\]", command):
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"]), command


def test_the_image_has_a_base_for_cpus_and_one_for_gpus():
    made = stages()
    assert of("ARG") == ["DEVICE=cpu"] and {"cpu", "cuda"} <= set(made)
    assert "${DEVICE}" in made.values() and made[""] in made
    for name in ("cpu", "cuda"):
        assert allowed(re.fullmatch(r"python:(\d+\.\d+)-slim-bookworm", made[name])[1])


def test_the_image_copies_what_exists_and_installs_it_with_make():
    for copied in of("COPY"):
        *sources, _ = [word for word in copied.split() if not word.startswith("--")]
        assert all((ROOT / source).exists() for source in sources)
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] != "#"]
    needed = {"Makefile", "lab.mk", "constraints.txt", "pyproject.toml", PROJECT["readme"], "data", "notebooks",
              "solutions", "lab3", "grader", *PROJECT["license-files"]}
    assert not [name for name in needed if any(fnmatch(name, pattern) for pattern in ignored)]
    for name in (".git", ".venv", "out", "work", "grades", "runs"):
        assert any(fnmatch(name, pattern) for pattern in ignored), name
    installs = [run for run in of("RUN") if "make " in run and "apt-get" not in run]
    assert len(installs) == 1
    assert_make(installs[0])


def test_the_image_has_what_grading_needs_and_no_rights():
    [system] = [run for run in of("RUN") if "apt-get" in run]
    assert {"bubblewrap", "make"} <= set(system.split())
    names = [name for name, _ in dockerfile()]
    assert of("USER") == re.findall(r"--uid (\d+)", system) and int(of("USER")[0]) > 0
    assert names.index("USER") < names.index("CMD")


def test_the_image_starts_jupyterlab_for_the_outside():
    [command] = map(json.loads, of("CMD"))
    done = subprocess.run([*command[:1], "-n", *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    started = done.stdout.splitlines()[-1]
    assert "--ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks --ServerApp.ip=0.0.0.0" in started
    assert "token" not in started.lower(), "only who sees the log comes in"


def test_binder_installs_with_the_pins(tmp_path):
    binder = ROOT / "binder"
    assert {path.name for path in binder.iterdir()} == {"runtime.txt", "postBuild"}, "the others are not read, or are"
    assert allowed((binder / "runtime.txt").read_text().strip().removeprefix("python-"))
    (tmp_path / "python").write_text('#!/bin/sh\necho "$PIP_EXTRA_INDEX_URL" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    done = subprocess.run(["binder/postBuild"], cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert done.returncode == 0, done.stderr
    index, *command = done.stdout.split()
    assert f"PIP_EXTRA_INDEX_URL={index}" in of("ENV") and CI["env"]["PIP_EXTRA_INDEX_URL"] == index
    assert command[:3] == ["-m", "pip", "install"] and (ROOT / command[command.index("-c") + 1]).is_file()
    assert_make(command[command.index("-e") + 1])


def test_the_dev_container_uses_the_image_and_make():
    build = DEVCONTAINER["build"]
    assert (ROOT / ".devcontainer" / build["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert (ROOT / ".devcontainer" / build["context"]).resolve() == ROOT
    assert build["target"] in stages()
    assert f" {DEVCONTAINER['remoteUser']} " in of("RUN")[0].partition("useradd")[2]
    assert_make(DEVCONTAINER["postCreateCommand"])
    assert [str(port) for port in DEVCONTAINER["forwardPorts"]] == of("EXPOSE")[0].split()
    for about in DEVCONTAINER["portsAttributes"].values():
        assert_make(about["label"])
    python = DEVCONTAINER["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert python.removeprefix("${containerWorkspaceFolder}/") == ".venv/bin/python"


def test_the_workflow_may_read_and_ends():
    assert CI["permissions"] == {"contents": "read"}
    assert CI.keys() <= {"name", True, "permissions", "concurrency", "env", "jobs"}  # YAML 1.1 reads `on` as true
    known = {"if", "needs", "runs-on", "container", "timeout-minutes", "steps", "strategy", "env"}
    for name, job in CI["jobs"].items():
        assert job.keys() <= known, name
        assert 0 < job["timeout-minutes"] < 360 and job.get("needs", name) in CI["jobs"]
        assert ("container" in job) != ("strategy" in job), name
        if "container" in job:
            assert allowed(re.fullmatch(r"python:(\d+\.\d+)-bookworm", job["container"]["image"])[1])


def test_the_workflow_runs_on_three_systems_and_all_pythons():
    job = CI["jobs"]["systems"]
    matrix = job["strategy"]["matrix"]
    assert {system.split("-")[0] for system in matrix["system"]} == {"ubuntu", "windows", "macos"}
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"] and all(map(allowed, matrix["python"]))
    assert {job["runs-on"], *(step["with"]["python-version"] for step in job["steps"] if "python-version" in
            step.get("with", {}))} == {"${{ matrix.system }}", "${{ matrix.python }}"}
    [test] = [step["run"].split()[-1] for step in job["steps"] if "tests/test" in step.get("run", "")]
    assert (ROOT / test).is_file()


def test_the_workflow_uses_known_actions():
    for step in STEPS:
        assert ("uses" in step) != ("run" in step)
        assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/none@v0"))


def test_the_workflow_names_what_exists():
    for step in STEPS:
        for name in re.findall(r"'([^']+)'", step.get("with", {}).get("key", "")):
            assert (ROOT / name).is_file(), name
        command = step.get("run", "")
        assert_make(command)
        if command and (word := shlex.split(command)[0]).startswith(".ci/"):
            assert os.access(ROOT / word, os.X_OK), word
    assert ".ci/run" in [step.get("run") for step in STEPS]


def test_the_workflow_for_pages_deploys_what_it_writes():
    [job] = PAGES["jobs"].values()
    assert PAGES["permissions"] == {"contents": "read", "pages": "write", "id-token": "write"}
    assert allowed(re.fullmatch(r"python:(\d+\.\d+)-bookworm", job["container"]["image"])[1])
    [install, site, page] = [step["run"] for step in job["steps"] if "run" in step]
    assert_make(install)
    assert_make(site)
    line = shlex.split(page)
    assert line[:3] == [".venv/bin/python", "-m", "lab3"]
    [folder] = [step["with"]["path"] for step in job["steps"] if "with" in step]
    assert make_parser().parse_args(line[3:]).out.parent == Path(folder)
    assert yaml.safe_load((ROOT / "mkdocs.yml").read_text())["site_dir"] == folder


def test_shell_scripts_are_right():
    scripts = [ROOT / name for name in (".ci/run", "binder/postBuild", "grader/export/gradescope_files/setup.sh",
                                        "grader/export/gradescope_files/run_autograder")]
    assert all(os.access(script, os.X_OK) for script in scripts[:2])
    texts = [script.read_text() for script in scripts] + of("RUN") + [step["run"] for step in STEPS if "run" in step]
    for text in texts:
        done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize("path", sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("solutions/*.ipynb")]),
                         ids=lambda path: f"{path.parent.name}-{path.stem[:2]}")
def test_each_notebook_begins_with_the_note(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown" and first.source.endswith(f"\n\n{NOTE.rstrip()}")


def note_for(place, folder):
    """What the note says to run, where Kaggle's inputs are in another folder, and what is there before it runs."""
    release.release(folder)
    [archive] = folder.glob("*.zip")
    if place == "kaggle":  # which unpacks what is uploaded, in a folder of the data set's name
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder / "input" / "someone" / "cats")
        archive.unlink()
    return CODE.replace("/kaggle/input", str(folder / "input"))


@pytest.mark.parametrize("place", ["colab", "kaggle"])
def test_the_note_unpacks_the_release_once(place, tmp_path):
    """Twice, as after a restart, with something written in between; without its last line, which installs."""
    *unpack, install = note_for(place, tmp_path).splitlines(keepends=True)
    assert install.startswith("%pip install ")
    (tmp_path / "cell.py").write_text("".join(unpack) + "print('found', sys.path[0])\n")
    for text in ("", "mine"):
        done = subprocess.run([sys.executable, "-c", "from IPython.core.interactiveshell import InteractiveShell\n"
                               "shell = InteractiveShell.instance()\n"
                               "shell.run_cell(open('cell.py').read()).raise_error()"],
                              cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        folder = tmp_path / f"lab3-{PROJECT['version']}"
        assert f"found {folder}\n" in done.stdout
        changed = folder / "lab3" / "common" / "plots.py"
        assert (folder / "lab3" / "__init__.py").is_file() and (changed.read_text() == text) == bool(text)
        changed.write_text("mine")


@pytest.mark.nightly
def test_a_notebook_begins_after_the_note(tmp_path):
    """As on Colab: an environment with PyTorch and no lab, a kernel in a folder with the zip alone."""
    place = tmp_path / "Colab Notebooks"
    code = note_for("colab", place)
    venv.create(tmp_path / "env", with_pip=True)
    kernel = KernelManager()
    kernel.kernel_spec.argv[0] = str(tmp_path / "env" / "bin" / "python")
    kernel.start_kernel(cwd=str(place), stderr=subprocess.DEVNULL, env={
        name: value for name, value in os.environ.items() if not name.startswith("LAB3_")} | {
        "PYTHONPATH": sysconfig.get_path("purelib"), "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0",
        "LAB3_PRESET": "smoke"})
    client = kernel.client()
    client.start_channels()
    client.wait_for_ready(60)

    def said(source):
        printed = []
        reply = client.execute_interactive(source, timeout=300, allow_stdin=False, output_hook=lambda message: (
            printed.append(message["content"].get("text", ""))))["content"]
        assert reply["status"] == "ok", (source, reply, printed)
        return "".join(printed)

    try:
        assert "ERROR" not in said(code)
        cells = nbformat.read(ROOT / "solutions" / "01_multi_head_attention.ipynb", as_version=4).cells
        first = next(cell.source for cell in cells if cell.cell_type == "code")
        answer = next(cell.source for cell in cells if cell.cell_type == "code" and exercise_of(cell.source))
        begun = said(first)
        assert f"answers go to lab3-{PROJECT['version']}/work" in begun and "[FAIL]" not in begun
        assert "[OK]   multi_head_attention" in said(answer)
        assert Path(said("print(lab3.__file__)").strip()).is_relative_to(tmp_path)
        assert (place / f"lab3-{PROJECT['version']}" / "work" / "multi_head_attention.py").is_file()
        found = said("!env -u PYTHONPATH {sys.executable} -c "
                     "'import importlib.util; print(importlib.util.find_spec(\"lab3\").origin)'")
        assert Path(found.strip()).is_relative_to(tmp_path), "commands find it, too, and the next session"
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


def checks_in(commands, unpacked):
    """The commands of a template for a course's repository set up what the release holds, then run the checks."""
    setup, check = (shlex.split(command.partition(" | ")[0]) for command in commands)
    assert setup[0] == "python" and (unpacked / setup[1]).is_file() and setup[2:] == ["--venv", ".venv", "."]
    assert check[:3] == [".venv/bin/python", "-m", "lab3"]
    options = make_parser().parse_args(check[3:])
    return options.command == "check" and options.work == Path("work")


def test_the_templates_for_courses_run_the_public_checks():
    github, gitlab = (yaml.safe_load((ROOT / "docs" / "ci" / name).read_text())
                      for name in ("github.yml", "gitlab.yml"))
    assert {"constraints.txt", "setup_lab.py"} <= set(release.TAKEN), "the templates name files of the release"
    assert github["permissions"] == {"contents": "read"} and github[True] == "push"  # YAML 1.1 reads `on` as true
    [job] = github["jobs"].values()
    steps = job["steps"]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
    [python] = [step["with"]["python-version"] for step in steps if "with" in step]
    assert allowed(python) and 0 < job["timeout-minutes"] < 360
    assert checks_in([step["run"] for step in steps if "run" in step], ROOT)
    assert steps[-1]["shell"] == "bash", "else a failing check passes, because tee does"
    [job] = gitlab.values()
    assert allowed(re.fullmatch(r"python:(\d+\.\d+)-bookworm", job["image"])[1])
    assert job["cache"] == {"key": {"files": ["constraints.txt"]}, "paths": [".pip-cache/"]}
    assert checks_in(job["script"], ROOT)


def test_on_a_hub_the_link_opens_a_starter_and_answers_go_beside_it(tmp_path, monkeypatch):
    link, config = dict(urllib.parse.parse_qsl(LINK)), Config()
    [settings] = re.findall(r"```python\n(.*?)```", HUB, re.DOTALL)
    exec(settings, {"get_config": lambda: config})
    place, starter = Path(link["urlpath"]).relative_to("lab/tree").parts
    assert (place, link["branch"]) == (link["targetpath"], "main") and (ROOT / "notebooks" / starter).is_file()
    assert f"--initial-branch={link['branch']} {urllib.parse.urlsplit(link['repo']).path}\n" in HUB
    assert config.JupyterHub.bind_url in HUB.partition(LINK)[0]
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LAB3_WORK", config.Spawner.environment["LAB3_WORK"])
    assert work_folder() == tmp_path / place / "work"
    assert f"-{PROJECT['version']}-py3" in HUB and f"lab3-{PROJECT['version']}.zip" in HUB


@pytest.mark.skipif(not shutil.which("zip"), reason="no zip on this machine")
def test_what_is_collected_on_a_hub_is_the_students_own(tmp_path):
    """The script with `runuser` and `getent` replaced: it reads no link and waits for no pipe."""
    [script] = re.findall(r"```sh\n(.*?)```", HUB, re.DOTALL)
    folder, secret = tmp_path / "home" / "anna" / "lab3", tmp_path / "secret"
    for name in ("work", "more", ".ipynb_checkpoints"):
        (folder / name).mkdir(parents=True)
    secret.write_bytes(b"secret")
    notebook = ROOT / "solutions" / "04_gamma_schedules.ipynb"
    for name in ("04_gamma_schedules.ipynb", "more/-x my own.ipynb", ".ipynb_checkpoints/04.ipynb"):
        shutil.copy(notebook, folder / name)
    os.mkfifo(folder / "pipe.ipynb")
    for name in ("link.ipynb", "work/maskgit.safetensors"):
        (folder / name).symlink_to(secret)
    (folder / "all").symlink_to(tmp_path)
    (tmp_path / "bin").mkdir()
    for name, does in (("runuser", 'shift 3; exec "$@"'), ("getent", f"echo $2:x:9:9::{tmp_path}/home/$2:/bin/sh")):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    subprocess.run(["sh", "-c", script, "collect.sh", "out", "anna", "ben"], cwd=tmp_path, timeout=60,
                   env=os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}, capture_output=True)
    with zipfile.ZipFile(tmp_path / "out" / "anna.zip") as packed:
        assert sorted(packed.namelist()) == ["04_gamma_schedules.ipynb", "more/-x my own.ipynb"]
    with opened(tmp_path / "out" / "anna.zip") as submission:
        assert submission.name == "anna" and not submission.answers["gamma_func"].problem
    with opened(tmp_path / "out" / "ben.zip") as submission:
        assert not submission.readable and submission.notes, "who has no folder is noticed"
