"""The project's own files agree with one another."""

import argparse
import importlib
import json
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
NEEDED = [Requirement(line) for line in PROJECT["dependencies"] + [line for extra in EXTRAS.values() for line in extra]]
PINS = {canonicalize_name(pin.name): pin for pin in (
    Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#")}
DOCS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md",
        *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())


@pytest.mark.parametrize("need", NEEDED, ids=str)
def test_every_dependency_is_pinned_within_its_range(need):
    pin = PINS[canonicalize_name(need.name)]
    [version] = [part.version for part in pin.specifier if part.operator == "=="]
    assert need.specifier, f"{need.name} has no range in pyproject.toml"
    assert need.specifier.contains(version, prereleases=True)


def test_pins_are_exact():
    assert all([part.operator for part in pin.specifier] == ["=="] for pin in PINS.values())


def test_pins_take_the_oldest_python_that_is_promised():
    """Also Python 3.11.0, which some systems have."""
    oldest = f"{PROJECT['requires-python'].removeprefix('>=')}.0"
    for name, pin in PINS.items():
        with suppress(metadata.PackageNotFoundError):  # of extras that are not installed
            about = metadata.metadata(name)
            if f"=={about['Version']}" == str(pin.specifier):
                wanted = about.get("Requires-Python", "")  # a package may hook in another reader, which raises at []
                assert SpecifierSet(wanted).contains(oldest), f"{pin}: {wanted}"


def test_environment_installs_what_pyproject_and_constraints_say():
    conda = [line for line in ENVIRONMENT["dependencies"] if isinstance(line, str)]
    [pip] = [entry["pip"] for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict)]
    python = Requirement(next(line for line in conda if line.startswith("python")))
    assert str(python.specifier) == str(SpecifierSet(PROJECT["requires-python"]))
    assert set(conda) == {str(python), "pip"}, "all else comes from pyproject.toml"
    assert "-c constraints.txt" in pip
    install, grader = [line for line in pip if line.startswith("-e ")]
    assert grader == "-e ./grader"
    assert set(re.search(r"\[(.+)\]", install)[1].split(",")) <= set(EXTRAS)


def test_make_and_conda_install_all_extras():
    [extras] = re.findall(r"PACKAGE = '\.\[(.+)\]' \./grader", (ROOT / "Makefile").read_text())
    assert set(extras.split(",")) == set(EXTRAS) and f"-e .[{extras}]" in (ROOT / "environment.yml").read_text()


def test_the_lock_has_the_pins_and_the_needs_of_this_version():
    """`uv lock --upgrade-package NAME==VERSION` brings a new pin into it."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    locked = {}
    for package in lock["package"]:
        locked.setdefault(package["name"], set()).add(package["version"])
        source = package["source"]
        assert source == {"editable": "."} or source == {"registry": "https://pypi.org/simple"}, package["name"]
    for name, pin in PINS.items():
        assert locked[name] == {str(pin.specifier).removeprefix("==")}, name
    [own] = [package for package in lock["package"] if package["name"] == PROJECT["name"]]
    assert own["version"] == PROJECT["version"] and lock["requires-python"] == PROJECT["requires-python"]
    needs = {(canonicalize_name(need.name), str(need.specifier)) for need in NEEDED}
    assert {(need["name"], str(SpecifierSet(need["specifier"]))) for need in own["metadata"]["requires-dist"]} == needs


def test_the_site_has_a_page_for_each_text_and_leaves_no_formula(monkeypatch, tmp_path):
    pytest.importorskip("latex2mathml")
    monkeypatch.syspath_prepend(ROOT / "docs")
    import build_site

    monkeypatch.setattr(build_site, "PAGES", tmp_path)
    formulas = build_site.prepare()
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.md")}
    assert {"index.md", "CHANGELOG.md", "docs/cats.md", "notebooks/04_gamma_schedules.md"} <= names
    assert not names & {"docs/SOLUTIONS.md", "docs/TEACHING.md"}, "students see the site"
    assert len(names) == len(DOCS) - 2 + 1 + len(list((ROOT / "notebooks").glob("*.ipynb")))
    assert len(formulas) > 200 and all(formula.startswith("<math") for formula in formulas)
    assert not [formula for formula in formulas if "\\" in formula], "a command that latex2mathml does not know"
    for page in tmp_path.rglob("*.md"):
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for link in re.findall(r"\]\((?!https?:)([^)#\s]+)", text):
            assert (page.parent / link).is_file(), f"{page.name}: {link}"


def test_the_benchmark_of_mistakes_finds_their_places_in_the_answers():
    from benchmarks.threshold import CASES, answers_with

    for _, changes in CASES.values():
        answers_with(changes, tokenizer=None)


def test_the_package_holds_no_answer():
    from lab3.exercises.table import EXERCISES

    names = {one.defines for one in EXERCISES.values()}
    for path in (ROOT / "lab3").rglob("*.py"):
        defined = set(re.findall(r"^(?:class|def) (\w+)", path.read_text(), re.MULTILINE))
        assert not defined & names, path


def test_shipped_weights_are_small_and_say_how_they_were_made():
    from lab3.common.files import sha256
    from lab3.model.tokenizer import load_tokenizer
    from lab3.model.tokens import tokenizer_key

    folder = ROOT / "data" / "checkpoints"
    weights = sorted(folder.rglob("*.safetensors"))
    assert [str(path.relative_to(folder).with_suffix("")) for path in weights] == [
        "labels/maskgit", "lite0/lite0", "maskgit", "tokenizer"]
    assert sum(path.stat().st_size for path in weights) <= 25e6
    lite0 = json.loads((folder / "lite0" / "lite0.json").read_text())
    assert lite0["sha256"] == sha256(weights[1]) and {"source", "source_sha256", "changes", "command"} <= lite0.keys()
    licence = (folder / "lite0" / "LICENSE").read_text()
    assert "Copyright (c) 2020, ML Illustrated" in licence and "END OF TERMS AND CONDITIONS" in licence
    del weights[1]
    for path in weights:
        about = json.loads(path.with_suffix(".json").read_text())
        assert {"command", "seed", "data", "data_key", "steps", "train_seconds", "machine", "curve"} <= about.keys()
        assert about["sha256"] == sha256(path)
        assert len(about["curve"]) > 5
    assert weights[0].stat().st_size <= 3e6
    key = tokenizer_key(load_tokenizer(weights[2]))
    for path in weights[:2]:
        assert json.loads(path.with_suffix(".json").read_text())["tokenizer_key"] == key


@pytest.mark.parametrize("page", [*DOCS, "data/cats/LICENSE.md"])
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        assert link.startswith("https://") or (ROOT / page).parent.joinpath(link).exists(), link


def words_of(parser):
    """The options and subcommands of a parser, and of its subcommands."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for name, one in action.choices.items():
                yield name
                yield from words_of(one)


@pytest.mark.parametrize("page", DOCS)
def test_the_commands_of_the_docs_exist(page):
    """Modules, subcommands and options of what the docs say to type, and targets of make."""
    text = re.sub(r"\n {16,}", " ", (ROOT / page).read_text())  # commands that go on in a second line
    for module, rest in re.findall(r"python -m ((?:lab3|grader|benchmarks\.\w+)\b)([^`\n]*)", text):
        names = re.findall(r"(?<!\S)\[?(--[a-z-]+)", rest)
        if "." in module:
            source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
            known = [name for name in names if f'"{name}"' in source]
        else:
            names += re.findall(r"^ +([a-z-]+)", rest)
            known = words_of(importlib.import_module(f"{module}.cli").make_parser())
        assert set(names) <= set(known), f"{module}{rest}"
    makefiles = "".join((ROOT / name).read_text() for name in ("Makefile", "lab.mk", "grader/export/student/Makefile"))
    for target in re.findall(r"^make ([a-z]+)|`make ([a-z]+)", text, re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", makefiles, re.MULTILINE), target


def test_layers_are_small_and_carry_their_licence():
    cats = ROOT / "data" / "cats"
    assert sum(path.stat().st_size for path in cats.iterdir() if path.is_file()) < 500_000
    licence = (cats / "LICENSE.md").read_text()
    assert "David Revoy" in licence and "CC BY 4.0" in licence


def test_make_help_names_every_target():
    made = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert all(f"make {target}" in made for target in phony if target != "help")


def test_rooms_import_only_from_rooms_below():
    """The contracts of `[tool.importlinter]` in pyproject.toml: the order of the layers, no cycle."""
    done = subprocess.run([Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True,
                          text=True)
    assert done.returncode == 0 and "3 kept, 0 broken" in done.stdout, done.stdout + done.stderr


def test_the_code_keeps_to_the_style_that_pyproject_sets():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--output-format", "concise"],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
