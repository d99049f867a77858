"""What a student does with the installed package, on any system. It needs only the package and pytest.

Run it with `--noconftest`; the package is the one that Python finds outside this project's folder.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.nightly  # with --noconftest it runs in any case
ROOT = Path(__file__).resolve().parents[1]
ANSWER = ROOT / "solutions" / "work" / "gamma_func.py"


@pytest.fixture
def lab3(tmp_path):
    """A function that runs a command in an empty folder, in whose path are a space and letters of two alphabets."""
    folder = tmp_path / "Größe и мера"
    folder.mkdir()

    def run(*arguments, status=0):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LAB3_")}
        done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, timeout=600,
                              env=environment | {"LAB3_CACHE": str(tmp_path / "cache")})
        assert done.returncode == status, done.stderr.decode(errors="replace")
        return done.stdout.decode(errors="replace")
    return folder, run


def test_notebooks_are_copied_and_an_answer_is_saved_and_found(lab3):
    folder, run = lab3
    run("-c", "from lab3.notebook.serve import prepare; prepare('.')")
    assert sorted(path.name for path in folder.glob("0?_*.ipynb")) == sorted(
        path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    cell = ANSWER.read_text(encoding="utf-8")
    cell = cell[cell.index("#| exercise"):]
    said = run("-c", f"""
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.enable_gui = lambda *_, **__: None
shell = InteractiveShell.instance()
shell.run_cell("import lab3; lab = lab3.start('04', 'smoke', 'work')").raise_error()
shell.run_cell({cell!r}).raise_error()""")
    assert "[OK]   gamma_func" in said and (folder / "work" / "gamma_func.py").is_file()
    assert "[OK]   gamma_func" in run("-m", "lab3", "check", "--work", "work", status=1)


def test_a_checkpoint_is_replaced_while_what_was_read_is_in_use(lab3):
    folder, run = lab3
    run("-c", """
import torch
from lab3.training.runs import load_training, save_training
model = torch.nn.Linear(3, 3)
optimizer = torch.optim.AdamW(model.parameters())
model(torch.ones(1, 3)).sum().backward()
optimizer.step()
for step in range(3):
    save_training("run/checkpoint", {"model": model}, {"optimizer": optimizer}, {"step": step})
    assert load_training("run/checkpoint", {"model": model}, {"optimizer": optimizer})["step"] == step""")
    assert [path.name for path in (folder / "run").iterdir()] == ["checkpoint"]


def test_pictures_are_drawn_and_read(lab3):
    folder, run = lab3
    run("-c", """
from lab3.data.cats import Cats
from lab3.decoding.inpaint import save_pictures
from pathlib import Path
save_pictures(Cats().test[:3], Path("pictures"))""")
    assert "pictures" in run("-m", "lab3", "data", "audit", "pictures")
