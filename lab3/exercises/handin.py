"""What a student hands in: notebooks, answers and the trained model in one zip, with a list of what is in it.

In: the folder of answers, with the notebooks beside it. Out: a zip whose `handin.json` lists each file's size and
SHA-256, and what the public checks said. The list shows what was lost or changed in transit; it proves nothing.
"""

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

from lab3.common.files import InputError, atomic_path, clean, load_tensors
from lab3.common.paths import WEIGHTS
from lab3.exercises.answers import answer_file, exercise_of
from lab3.exercises.examine import examine
from lab3.exercises.predictions import FOLDER
from lab3.exercises.table import EXERCISES

LIST, ZIP = "handin.json", "lab3-handin.zip"
MOST = 30_000_000  # bytes of the zip
TEXTS = ("report.md",)  # in the folder of answers, besides answers and model
REPORTS = ("report.html", "report.pdf")  # beside it


@dataclass(frozen=True)
class HandIn:
    """What was packed.

    Attributes:
        path: the zip; `sha256`: its checksum; `size`: in bytes.
        files: place in the zip -> size in bytes.
        checks: exercise -> what its public check says, on one line.
        missing: what is not in it or will not count, a list of sentences.
    """

    path: Path
    sha256: str
    size: int
    files: dict
    checks: dict
    missing: tuple

    def lines(self):
        """What to tell the student, in lines."""
        yield from (f"  {place}: {_shown(size)}" for place, size in self.files.items())
        yield from map(clean, self.checks.values())
        yield from (f"! {clean(line)}" for line in self.missing)
        ready = f"Things to look at before you upload it: {len(self.missing)}." if self.missing else "Upload it."
        yield f"{self.path}: {_shown(self.size)}, SHA-256 {self.sha256}. {ready}"


def _shown(size):
    return f"{size / 1e6:.1f} MB" if size > 1e6 else f"{size / 1e3:.1f} kB"


def pack_handin(out, work, predictions=False):
    """Check the answers and pack them with the notebooks, the model and its training record.

    Args:
        out: the zip.
        work: the folder of answers; the notebooks lie in `notebooks` beside it, else beside it.
        predictions: whether to pack the student's predictions too.

    Returns:
        A `HandIn`.

    Raises:
        InputError: no folder of answers, no notebook, or the zip would be larger than `MOST`.
        SaveError: the zip cannot be written.
    """
    out, work = Path(out), Path(work).resolve()
    if not work.is_dir():
        raise InputError(f"{work}: no such folder of answers. The notebooks make it: run their exercise cells first.")
    root, found = work.parent, {}
    notebooks = sorted((root / "notebooks" if (root / "notebooks").is_dir() else root).glob("*.ipynb"))
    if not notebooks:
        raise InputError(f"{root}: holds no notebooks, neither in notebooks/ nor beside {work.name}/. Put the .ipynb "
                         "files there: the grader reads them.")
    others = [*(work / f"{name}.py" for name in EXERCISES), *(work / name for name in TEXTS),
              *(root / name for name in REPORTS)]
    reports = {name: report for name, _, report in examine(work)}
    missing = [*_unwritten(reports), *_unsaved(work, notebooks)]
    about, model = _model(work / WEIGHTS)
    missing += model
    if about is not None:
        others.append(work / WEIGHTS)
    if predictions:
        others += sorted((work / FOLDER).glob("*.json"))
    for path in [*notebooks, *filter(Path.is_file, others)]:
        place = path.relative_to(root).as_posix()
        if path.is_relative_to(work):
            place = f"work/{path.relative_to(work).as_posix()}"
        found[place] = path.read_bytes()
    checks = {name: report.message.splitlines()[0] for name, report in reports.items()}
    listed = {"files": {place: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                        for place, content in found.items()},
              "checks": checks, "missing": missing, "record": about}
    with atomic_path(out) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for place, content in {LIST: json.dumps(listed, indent=2).encode(), **found}.items():
                archive.writestr(place, content)
        packed = temporary.read_bytes()
        if len(packed) > MOST:
            large = sorted(found, key=lambda place: -len(found[place]))[:3]
            sizes = ", ".join(f"{place} ({len(found[place]) / 1e6:.1f} MB)" for place in large)
            raise InputError(f"{out}: would have {len(packed) / 1e6:.1f} MB, and {MOST / 1e6:.0f} are the most. The "
                             f"largest: {sizes}. Clear outputs of notebooks, or train with the preset cpu.")
    return HandIn(out, hashlib.sha256(packed).hexdigest(), len(packed),
                  {place: len(content) for place, content in found.items()}, checks, tuple(missing))


def _unwritten(reports):
    """What the public checks say of answers that do not pass."""
    for name, report in reports.items():
        if not report.passed:
            state = "fails its public check" if report.written else "is not written yet"
            yield f"{name} (notebook {EXERCISES[name].notebook}) {state}."


def _unsaved(work, notebooks):
    """Answers that were checked, and that no saved notebook holds."""
    held = {}
    for path in notebooks:
        try:
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        except (OSError, ValueError, KeyError, TypeError):
            yield f"{path.name} is damaged. Open it in JupyterLab and save it."
            continue
        for text in texts:
            try:
                if name := exercise_of(text):
                    held.setdefault(name, []).append(answer_file(text).split())
            except InputError as error:
                yield f"{path.name}: {error}"
    for name, one in EXERCISES.items():
        path = work / f"{name}.py"
        if path.is_file() and path.read_text(encoding="utf-8", errors="replace").split() not in held.get(name, []):
            yield (f"{name}: the answer that was checked is not in a notebook. Save notebook {one.notebook} (Ctrl-S): "
                   "the grader reads notebooks.")


def _model(path):
    """(the training record of the model that was trained, or None where it is left out; sentences on what is wrong)"""
    if not path.is_file():
        return None, [f"work/{WEIGHTS} is not there. Train your model in notebook 03."]
    try:
        record = load_tensors(path)[1].get("record")
    except InputError as error:
        return None, [f"work/{WEIGHTS} is left out: {error}"]
    if not record:
        return {}, [f"work/{WEIGHTS} has no record of its training, and gets no points without one. Run lab.train() in "
                    "notebook 03 again."]
    return record, []
