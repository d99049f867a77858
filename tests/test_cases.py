"""Bad input of real life, kept as files in tests/cases/: each is read, or refused with the sentence that helps."""

import re

from conftest import ROOT

from grader.submission.submission import read_submission

CASES = ROOT / "tests" / "cases"


def test_each_case_is_described_and_tested():
    described = re.findall(r"^\| `([\w-]+)` \|", (CASES / "README.md").read_text(), re.MULTILINE)
    assert sorted(described) == sorted(path.name for path in CASES.iterdir() if path.is_dir())
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    assert all(f'CASES / "{name}"' in tests for name in described)


def test_a_zip_entry_without_a_name_is_left_out():
    submission = read_submission(CASES / "zip-entry-without-name" / "lab3.zip")
    assert submission.readable and not submission.answers["gamma_func"].problem
