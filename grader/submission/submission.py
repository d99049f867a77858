"""Reads what students hand in: finds their notebooks and model, and in them the answer to every exercise.

In: a folder, a zip or one notebook, or several of a student's, made in any way. Out: a `Submission`; anything wrong
with the content is a note for the student, never an exception. Nothing is executed.

Which cell counts, in the students' words:
1. Code cells with a line `#| exercise: ID` come first.
2. If no code cell has that line, a text or raw cell with it counts.
3. If none of these defines the name that the exercise asks for, any code cell that defines it counts.
4. Of several, the last in the notebook counts. An untouched starter never replaces an answer, nor does a cell that
   is not valid Python.
5. Of several notebooks, the one with the course's own file name comes first, then those whose name begins with the
   exercise's number, then the others by name. Of several files that a student handed in, the latest comes first; a
   notebook in a folder `notebooks` comes before another of its name, and one in a folder such as `backup` or `old`
   comes last. The first with an answer counts.
What else of the notebook goes with the definition is `grader.submission.answer_code`'s rule.
"""

import contextlib
import hashlib
import json
import os
import re
import tempfile
import unicodedata
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from grader.submission.answer_code import MAX_CODE, MAX_STATEMENTS, Broken, Notebook, Statement, read_cell
from grader.submission.archive import ARCHIVES, MB, NOTEBOOK, Unusable, hidden, shown, unpacked
from lab3.common.files import InputError, SaveError
from lab3.exercises.handin import LIST
from lab3.exercises.handin import MOST as MAX_HANDIN
from lab3.exercises.table import ALL_EXERCISES, EXERCISES, MARKER

NOTEBOOKS = {
    "01": "01_multi_head_attention.ipynb",
    "02": "02_masked_token_modelling.ipynb",
    "03": "03_training.ipynb",
    "04": "04_gamma_schedules.ipynb",
    "05": "05_iterative_decoding.ipynb",
    "06": "06_inpainting_and_fid.ipynb",
}
MODEL = ("work", "maskgit.safetensors")
MAX_LIST = 1_000_000  # bytes of the list that `lab3 handin` packs
# What stands beside the submissions' folders in the results.
OWN_FILES = ("run.json", "grades.csv", "class.html", "manual.csv", "extensions.csv", "submitted.csv", "marks.csv",
             "handed_back.json", "rubric.yml", "earlier", "similar", "similar.csv", "similar.html")

MAX_FILES = 10  # or folders that are one student's
MAX_NOTEBOOKS = 50
MAX_NOTEBOOK = 20 * MB  # of a notebook, its outputs included
MAX_READ = 100 * MB  # of all notebooks of a submission
MAX_MODEL = 500 * MB  # that of the preset "report" has 150
MAX_OBJECTS = 500_000  # of a notebook's JSON, outputs included
MAX_CELLS = 5_000  # of a submission; the course's notebooks have about 200
MAX_ALL_CODE = 1_000_000  # characters of a submission's code
MAX_NAME = 100  # bytes of a submission's name
MAX_NOTES = 30

FENCE = re.compile(r"^[ \t]*```.*$", re.MULTILINE)
CONFLICT = re.compile(r"^ *(?:<{7}|>{7}) ", re.MULTILINE)  # what git writes around the sides of a conflict
BACKUP = re.compile(r"(?:^|[^a-z])(?:backups?|bak|old|copy|copies|archived?|previous|kopie|sicherung)(?:[^a-z]|$)"
                    "|備份|备份|舊|旧", re.IGNORECASE)  # names of folders
# What files and folders are called in the downloads of Canvas (student, number, number of the file, file), Moodle and
# Gradescope.
CANVAS = re.compile(r"(?:(anon_[^_]+)_(?:LATE_)?|(.+?)_(?:LATE_)?(\d{1,20})_)(?:(\d{1,20})_(.+)|(?:text|link)\.html)",
                    re.IGNORECASE)
LATE = re.compile(r"[^_]+(?:_[^_]+)?_LATE_")  # how such a name goes on where Canvas holds it for late
MOODLE = re.compile(r"(.+_\d+)_assignsubmission_[a-z]+(?:_(.*))?", re.IGNORECASE)
GRADESCOPE = re.compile(r"submission_\d+")
# The folders of the lab itself, which hold no other student's work.
KIT = {"notebooks", "work", "lab3", "data", "docs", "binder", "solutions", "grader", "tests", "benchmarks"}


@dataclass(frozen=True)
class Answer:
    """What a submission has for one exercise.

    Attributes:
        exercise: its id.
        text: the code that `lab3.exercises.answers.answer_file` takes; empty where there is a problem.
        notes: which cell counts and why, for the student.
        problem: None, "missing", "not written", or one line on why the answer cannot be read.
    """

    exercise: str
    text: str = ""
    notes: tuple = ()
    problem: str | None = None


@dataclass(frozen=True)
class Submission:
    """What a student handed in.

    Attributes:
        name: fit to be a folder's name.
        answers: a dict, exercise id -> `Answer`; every exercise is in it.
        model: the path of the trained model, or None. One from a zip is gone after the block of `opened`.
        notes: what could not be read, and why, for the student.
        notebooks: those that could be read, as text.
        digest: SHA-256 of all that counts: the notebooks and the model.
        model_digest: SHA-256 of the model, empty without one.
    """

    name: str
    answers: dict
    model: Path | None
    notes: tuple
    notebooks: tuple
    digest: str
    model_digest: str = ""

    @property
    def readable(self):
        """Whether there was a notebook that could be read."""
        return bool(self.notebooks)


class Download(NamedTuple):
    """What the name of a file or folder in a download of Canvas, Moodle or Gradescope tells.

    Attributes:
        submission: the same for all that one student handed in.
        number: Canvas's number of the file, higher for a later one; else None.
        file: the student's own name for it, without the number that Canvas adds when it is handed in again.
        late: whether Canvas marks it as late.
    """

    submission: str
    number: int | None
    file: str
    late: bool = False


@contextlib.contextmanager
def opened(path, name=None):
    """Read a submission; what had to be unpacked for it is there as long as the block lasts.

    Args:
        path: a folder, a zip or an .ipynb file; or several of one student's, the latest first.
        name: what to call it; default: after its path.

    Yields:
        A `Submission`; also where nothing could be read.

    Raises:
        SaveError: there is no room to unpack the model.
    """
    with tempfile.TemporaryDirectory(prefix="lab3-") as folder:
        yield read_submission(path, folder, name)


def read_submission(path, folder=None, name=None):
    """Read a submission, as `opened` does.

    Args:
        path, name: as `opened` takes them.
        folder: an empty folder to unpack a zip's model into; None: a model in a zip does not count.

    Returns:
        A `Submission`, whatever the path holds.

    Raises:
        SaveError: there is no room to unpack the model.
    """
    paths = [Path(one) for one in ([path] if isinstance(path, (str, Path)) else path)]
    shelf = _Shelf(folder)
    with contextlib.ExitStack() as stack:
        found, failed = [], False
        for place, one in enumerate(paths[:MAX_FILES]):
            try:
                found += [replace(entry, order=place) for entry in stack.enter_context(unpacked(one, shelf.note))]
            except SaveError:
                raise
            except (Unusable, OSError) as error:
                failed = True
                shelf.note(f"{shown(one.name)}: {getattr(error, 'strerror', None) or error}.")
        if len(paths) > 1:
            shelf.note(f"Read together as one student's: {_listed(one.name for one in paths[:MAX_FILES])}.")
        if len(paths) > MAX_FILES:
            shelf.note(f"Of {len(paths)} files, the latest {MAX_FILES} are read. Hand in one zip.")
        if found or not failed:
            shelf.take(found)
    answers = {exercise: _answer(exercise, shelf.pages) for exercise in EXERCISES}
    return Submission(name or safe_name(paths[0]), answers, shelf.model, shelf.notes,
                      tuple(page.shown for page in shelf.pages), shelf.digest, shelf.model_digest)


def downloaded(name):
    """What the name of a file or folder tells, a `Download`; None where no system names its downloads so."""
    if found := CANVAS.fullmatch(name):
        anonymous, student, user, number, file = found.groups()
        return Download(f"{anonymous or f'{student}_{user}'}_canvas", number and int(number),
                        re.sub(r"-\d+(?=\.\w+$)", "", file or ""), bool(LATE.match(name)))
    if found := MOODLE.fullmatch(name):
        return Download(f"{found[1]}_assignsubmission_file", None, found[2] or "")
    return Download(name, None, "") if GRADESCOPE.fullmatch(name) else None


def find_submissions(paths):
    """The submissions that some paths name.

    A file is a submission. So is a folder that directly holds notebooks, a folder `notebooks` or a folder `work`.
    Of any other folder, the folders and archives in it are the submissions, hidden ones aside; where it holds none of
    these, it is one itself. What Canvas and Moodle name as one student's is one submission.

    Args:
        paths: files and folders.

    Returns:
        A dict, name -> a tuple of paths, the latest first. The names are fit for folders and differ also where case
        does not count; the same paths give the same names, in whatever order.

    Raises:
        InputError: a path does not exist or cannot be looked into, or it may be one submission or a class; the message
            names it.
    """
    found = {}
    for path in map(Path, paths):
        try:
            inside = sorted(_submissions_in(path), key=lambda one: not one.is_symlink())  # a link takes nobody's name
            found |= {one.resolve(): one for one in inside}
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}. Name a folder, a zip or a notebook that exists.") from None
    named, taken = {}, set(OWN_FILES)
    for base, group in _students([found[place] for place in sorted(found)]):
        name, number = base, 2
        while name.casefold() in taken:
            name, number = f"{base}-{number}", number + 1
        taken.add(name.casefold())
        named[name] = group
    return named


def _students(paths):
    """Paths by student: a list of (name, tuple of paths, the latest first)."""
    groups = {}
    for path in paths:
        told = downloaded(path.name)
        groups.setdefault(told and not GRADESCOPE.fullmatch(path.name) and told.submission or path, []).append(path)
    found = []
    for student, group in groups.items():
        numbers = {(told.number, Path(told.file).stem) for told in (downloaded(path.name) for path in group)
                   if told and told.number}
        if len(numbers) > len(dict(numbers)):  # two files have one number: these are not Canvas's
            found += [(safe_name(path), (path,)) for path in group]
        else:
            group.sort(key=lambda path: -((downloaded(path.name) or Download("", None, "")).number or 0))
            found.append((safe_name(student), tuple(group)))
    return found


def _submissions_in(path):
    """The submissions that a path names. Raises `InputError` where it may be one or several."""
    path.stat()
    if downloaded(path.name) and not CANVAS.fullmatch(path.name):  # which lab_3_2026_submissions matches, too
        return [path]
    if not path.is_dir():
        if len(several := _one_a_student(_names_in(path))) > 1:
            raise InputError(f"{path}: holds submissions of several students, such as {several[0]} and {several[1]}. "
                             "Unpack it and name the folder.")
        return [path]
    handed, packed, own = _look_into(path)
    if own:
        bare = [child for child in own if child.is_file()]
        if other := next(chain(handed, _others(packed)), None) or _same_exercise(bare):
            raise InputError(f"{path}: {own[0].name} lies beside {other.name}: is this one submission, or several? "
                             "Give each student's files a folder of their own and move out what belongs to nobody; "
                             f"where {path.name} is one submission, pack it as a zip.")
        return [path]
    if packed and not handed and all(map(_several_in, packed)):
        one, other = _several_in(packed[0])[:2]
        raise InputError(f"{packed[0]}: holds several submissions, such as {one} and {other}. Name {packed[0]} itself "
                         "where it is a class; where it is one submission, pack it as a zip.")
    return [*handed, *packed] or [path]


def _several_in(path):
    """The names of submissions in a folder that looks like a class; empty where it looks like one submission."""
    if not path.is_dir() or not os.access(path, os.R_OK | os.X_OK):
        return []
    handed, packed, own = _look_into(path)
    names = _one_a_student(child.name for child in handed)
    if len(names) < 2 and not own:
        names = [child.name for child in islice(_others(packed), 2)]
    return names if len(names) > 1 else []


def _look_into(folder):
    """What a folder holds.

    Returns:
        (handed, packed, own): files and folders that a system named as handed in; other folders and archives; other
        notebooks, and the lab's folders `notebooks` and `work`.
    """
    children = sorted(child for child in folder.iterdir() if not hidden(child.name))
    packed = [child for child in children if child.is_dir() or child.suffix.lower() in ARCHIVES]
    bare = [child for child in children if NOTEBOOK.search(child.name)]
    handed = [child for child in children if downloaded(child.name)]
    if not any(child in packed + bare for child in handed):  # no download, but a file such as sample_1_2_3.png
        handed = []
    own = bare + [child for child in packed if child.is_dir() and child.name in ("notebooks", "work")]
    return (handed, [child for child in packed if child not in handed], [child for child in own if child not in handed])


def _names_in(path):
    """The names of all files and folders in a folder or an archive; none where it cannot be read."""
    with contextlib.suppress(Unusable, OSError), unpacked(path, str) as entries:
        return sorted({part for entry in entries for part in entry.place.parts})
    return []


def _one_a_student(names):
    """Of the names that Canvas, Moodle or Gradescope gave, one for each student."""
    return list({told.submission: name for name in names if (told := downloaded(name))}.values())


def _others(packed):
    """Folders and archives that hold notebooks, and are neither the lab's nor a backup."""
    return (child for child in packed if child.name not in KIT and not BACKUP.search(child.stem) and any(
        NOTEBOOK.search(name) for name in _names_in(child)))


def _same_exercise(notebooks):
    """The first notebook that has an exercise of an earlier one, where neither is numbered nor a copy; else None."""
    seen = {}
    for path in notebooks:
        stem = re.sub(r"(?:-Copy\d+| ?\(\d+\))$", "", path.name.partition(".ipynb")[0])
        for exercise, answer in () if re.match("0[0-6]", stem) else read_submission(path).answers.items():
            if answer.problem != "missing" and seen.setdefault(exercise, stem) != stem:
                return path
    return None


def safe_name(path):
    """A name for a submission, after its path: letters, digits, `-`, `_` and inner dots, at most 100 bytes."""
    path = Path(os.path.abspath(path))
    stem = path.stem if path.suffix.lower() in (*ARCHIVES, ".ipynb") else path.name
    name = unicodedata.normalize("NFC", os.fsencode(stem).decode("utf-8", "replace"))
    name = re.sub(r"[^\w.-]+|\.{2,}", "_", name).strip("._-")
    return name.encode()[:MAX_NAME].decode("utf-8", "ignore").rstrip("._-") or "submission"


class _Shelf:
    """What has been read of a submission so far."""

    def __init__(self, folder):
        self.folder, self.pages, self.model, self.model_digest = folder, [], None, ""
        self.cells, self.code = MAX_CELLS, MAX_ALL_CODE  # how many may still be read
        self._notes, self._more, self._read, self._digest = [], 0, 0, hashlib.sha256()

    def note(self, text):
        if len(self._notes) < MAX_NOTES:
            self._notes.append(text)
        else:
            self._more += 1

    @property
    def notes(self):
        return (*self._notes, *([f"And {self._more} more notes like these."] if self._more else []))

    @property
    def digest(self):
        return self._digest.hexdigest()

    def take(self, entries):
        """Read the notebooks and the model among some files."""
        notebooks = sorted((entry for entry in entries if entry.kind == ".ipynb"), key=lambda entry: (
            backup(entry.place), course_name(entry.place) not in NOTEBOOKS.values(), *_rank(entry)))
        for entry in notebooks[:MAX_NOTEBOOKS]:
            self._take_notebook(entry)
        if len(notebooks) > MAX_NOTEBOOKS:
            self.note(f"Of {len(notebooks)} notebooks, {MAX_NOTEBOOKS} are read, those with the course's file names "
                      "first. Hand in those of the course alone.")
        if not notebooks:
            there = f", only {_listed(entry.place for entry in entries)}" if entries else ""
            self.note(f"There is no notebook in it{there}. Hand in the folder or the zip that holds your .ipynb files.")
        models = [entry for entry in entries if entry.place.name == MODEL[-1]]
        right = sorted((entry for entry in models if entry.place.parts[-2:] == MODEL),
                       key=lambda entry: (bool(entry.reason), backup(entry.place), *_rank(entry)))
        for entry in sorted((entry for entry in entries if entry.place.name == LIST), key=_rank)[:1]:
            self._compare(entry, {one.place: one for one in entries})
        if right:
            self._take_model(right[0])
        elif models:
            self.note(f"{shown(models[0].place)}: not read: a model counts as {'/'.join(MODEL)} only.")

    def _compare(self, entry, entries):
        """Note what was lost or changed since `lab3 handin` packed it. Nothing else is taken from its list."""
        try:
            listed = json.loads(b"".join(entry.blocks(MAX_LIST, "Pack it again")))["files"]
            files = {str(place): (int(told["size"]), str(told["sha256"])) for place, told in listed.items()}
        except Unusable as error:
            self.note(f"{shown(entry.place)}: not read: it {error}.")
            return
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.note(f"{shown(entry.place)}: not read: it is not what lab3 handin wrote. That costs nothing.")
            return
        for place, (size, digest) in list(files.items())[:MAX_NOTEBOOKS]:
            there = entries.get(entry.place.parent / place)
            if there is None:
                self.note(f"{shown(place)} was packed by lab3 handin and is not here: hand in its zip as it is.")
            elif there.size != size or size <= MAX_HANDIN and _sha256(there) != digest:
                self.note(f"{shown(place)} was changed after lab3 handin packed it: what is here counts.")

    def _take_notebook(self, entry):
        try:
            most = min(MAX_NOTEBOOK, MAX_READ - self._read)
            raw = b"".join(entry.blocks(most, "Clear its outputs, save it and hand it in again"))
        except Unusable as error:
            self.note(f"{shown(entry.place)}: not read: it {error}.")
            return
        self._read += len(raw)
        for part in (str(entry.place).encode("utf-8", "replace"), raw):
            self._digest.update(hashlib.sha256(part).digest())
        try:
            self.pages.append(_Page(entry, _cells(raw), self))
        except Unusable as error:
            self.note(f"{shown(entry.place)}: not read: it {error}.")

    def _take_model(self, entry):
        path, packed, digest = entry.path, not entry.path and not entry.reason, hashlib.sha256(b"model")
        if packed and self.folder is None:
            return
        if packed:
            path = Path(self.folder, MODEL[-1])
        try:
            with path.open("xb") if packed else contextlib.nullcontext() as copy:
                for block in entry.blocks(MAX_MODEL, "Train it with the preset cpu or report"):
                    digest.update(block)
                    if copy:
                        copy.write(block)
        except Unusable as error:
            self.note(f"{shown(entry.place)}: not read: the model {error}.")
            return
        except OSError as error:
            raise SaveError(f"{path}: a model could not be unpacked ({error.strerror}). Free some space.") from error
        self._digest.update(digest.digest())
        self.model, self.model_digest = path, digest.hexdigest()


def _sha256(entry):
    """The SHA-256 of a file; empty where it cannot be read."""
    digest = hashlib.sha256()
    try:
        for block in entry.blocks(MAX_HANDIN, "Pack it again"):
            digest.update(block)
    except Unusable:
        return ""
    return digest.hexdigest()


def _cells(raw):
    """The cells of a notebook, pairs (is it code, its text). Raises `Unusable`."""
    again = "Open it in JupyterLab, save it and hand it in again"
    if raw.count(b"{") + raw.count(b"[") > MAX_OBJECTS:
        raise Unusable(f"holds more than {MAX_OBJECTS:,} JSON objects and lists. Clear its outputs, save it and hand "
                       "it in again")
    try:
        data = json.loads(raw)
    except RecursionError:
        raise Unusable(f"is nested too deep. {again}") from None
    except ValueError as error:  # of JSON, or of the encoding
        if CONFLICT.search(raw.decode("utf-8", "replace")):
            raise Unusable("holds git's conflict markers (<<<<<<<, >>>>>>>). Keep one side of each conflict in a text "
                           "editor, open it in JupyterLab, save it and hand it in again") from None
        raise Unusable(f"is {'damaged' if raw.strip() else 'empty'} ({shown(error)}). {again}") from None
    cells = data.get("cells") if isinstance(data, dict) else None
    if cells is None and isinstance(data, dict) and isinstance(data.get("worksheets"), list):  # as before 2015
        sheets = [sheet.get("cells") for sheet in data["worksheets"] if isinstance(sheet, dict)]
        cells = [cell for sheet in sheets if isinstance(sheet, list) for cell in sheet]
    if not isinstance(cells, list):
        raise Unusable(f"has no cells. {again}")
    return [_code_and_source(cell) for cell in cells]


def _code_and_source(cell):
    if not isinstance(cell, dict):
        return False, ""
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    if not isinstance(source, str):
        source = ""
    return cell.get("cell_type", "code") == "code", source.encode("utf-8", "replace").decode()


def course_name(place):
    """A notebook's file name without what a system or a browser added."""
    told = downloaded(place.name)
    return NOTEBOOK.sub(".ipynb", told.file if told else place.name)


def backup(place):
    """Whether a file lies in a folder of backups."""
    return any(map(BACKUP.search, place.parts[:-1]))


def _rank(entry):
    """What decides between files that are equal in other respects."""
    return entry.order, "notebooks" not in entry.place.parts[-2:-1], len(entry.place.parts), str(entry.place)


@dataclass(frozen=True)
class _Cell:
    """A cell: its number counted from 1, its text, the exercises it is marked for; its statements, or why none."""

    number: int
    code: bool
    source: str
    marks: tuple
    statements: tuple = ()
    broken: str = ""


class _Page:
    """A notebook that was read. Raises `Unusable` where it holds more than a notebook of the course may."""

    def __init__(self, entry, cells, shelf):
        self.entry, self.shown, self.cells, statements = entry, shown(entry.place), [], 0
        written = sum(len(source) for code, source in cells if code and len(source) <= MAX_CODE)
        for number, room, what in ((len(cells), shelf.cells, f"{MAX_CELLS:,} cells"),
                                   (written, shelf.code, f"{MAX_ALL_CODE:,} characters of code")):
            if number > room:
                raise Unusable(f"brings the submission to more than {what}. Remove what is not your own work")
        for number, (code, source) in enumerate(cells, 1):
            marks = tuple(dict.fromkeys(MARKER.findall(source[:MAX_CODE])))
            for mark in (one for one in marks if one not in ALL_EXERCISES):
                shelf.note(f"{self.shown}, cell {number}: exercise {shown(mark)!r} does not exist. "
                           f"The exercises are: {', '.join(EXERCISES)}.")
            if code or EXERCISES.keys() & marks:
                self.cells.append(_read(number, code, source, marks))
                statements += len(self.cells[-1].statements)
            if statements > MAX_STATEMENTS:
                raise Unusable(f"holds more than {MAX_STATEMENTS} statements. Remove what is not your own work")
        shelf.cells, shelf.code = shelf.cells - len(cells), shelf.code - written

    def rank(self, number):
        """How early this notebook is looked at for the exercises of the notebook with this number."""
        name = course_name(self.entry.place)
        return (backup(self.entry.place), name != NOTEBOOKS[number], not name.startswith(number), *_rank(self.entry))

    @cached_property
    def notebook(self):
        return Notebook([one for cell in self.cells if cell.code for one in cell.statements])

    def excerpt(self, cell, statement, name):
        """What `Notebook.excerpt` gives; a text cell stands where it is among the code cells."""
        if cell.code:
            return self.notebook.excerpt(statement, name)
        cells = [one for one in self.cells if one.code or one is cell]
        return Notebook([one for cell in cells for one in cell.statements]).excerpt(statement, name)


def _read(number, code, source, marks):
    try:
        if len(source) > MAX_CODE:
            raise Broken(f"it is longer than {MAX_CODE:,} characters")
        return _Cell(number, code, source, marks, tuple(read_cell(number, source if code else FENCE.sub("", source))))
    except Broken as error:
        conflict = CONFLICT.search(source[:MAX_CODE])
        why = "it holds git's conflict markers; keep one side of each conflict" if conflict else str(error)
        return _Cell(number, code, source[:MAX_CODE], marks, (), why)


@dataclass(frozen=True)
class _Found:
    """A definition of an answer, and why it would count; `statement` is None in a cell that cannot be read."""

    page: _Page
    cell: _Cell
    statement: Statement | None
    why: str

    @property
    def where(self):
        return f"{self.page.shown}, cell {self.cell.number}"


def _answer(exercise, pages):
    """The answer to an exercise among the notebooks read."""
    name, number = EXERCISES[exercise].defines, EXERCISES[exercise].notebook
    written, stubs, broken = [], [], []
    for page in sorted(pages, key=lambda page: page.rank(number)):
        here = _look(page, exercise, name)
        written += reversed(here[0])  # the one that counts comes first
        stubs += here[1]
        broken += reversed(here[2])
    if written:
        return _take(exercise, written, stubs, broken)
    notes = tuple(f"{one.where}: {name} is defined, but nothing is written in it yet." for one in stubs)
    if broken:
        return Answer(exercise, "", (f"{broken[0].where} counts: {broken[0].why}.", *notes),
                      f"{broken[0].where}: {broken[0].cell.broken}. Mend it and run the notebook from top to bottom.")
    if stubs:
        return Answer(exercise, "", notes, "not written")
    return Answer(exercise, "", (f"No cell has the line #| exercise: {exercise} and defines {name}, "
                                 f"and no other cell defines {name}.",), "missing")


def _look(page, exercise, name):
    """What a notebook has for an exercise: definitions written, untouched ones, and cells that cannot be read."""
    marked = [cell for cell in page.cells if cell.code and exercise in cell.marks]
    texts = [cell for cell in page.cells if not cell.code and exercise in cell.marks and not marked]
    others = [cell for cell in page.cells if cell.code and exercise not in cell.marks]
    line = f"it has the line #| exercise: {exercise}"
    written, stubs = [], []
    for cells, why in ((marked, line), (texts, f"{line}, though it is no code cell"),
                       (others, f"it defines {name}, and no cell with the line #| exercise: {exercise} does better")):
        found = [_Found(page, cell, one, why) for cell in cells for one in cell.statements if one.defines(name)]
        stubs += [one for one in found if one.statement.stub(name)]
        written = written or [one for one in found if not one.statement.stub(name)]
    defined = re.compile(rf"^(?:def|class)[ \t]+{name}\b", re.MULTILINE)
    broken = [_Found(page, cell, None, line if cell in marked else f"it defines {name}")
              for cell in marked + others if cell.broken and (cell in marked or defined.search(cell.source))]
    return written, stubs, broken


def _take(exercise, written, stubs, broken):
    """The answer that counts, the first one written, with what it needs."""
    counts, *others = written
    name, cells = EXERCISES[exercise].defines, counts.page.cells
    notes = [f"{counts.where} counts: {counts.why}."]
    if others:
        notes.append(f"{name} is also defined in {_listed(one.where for one in others)}. Of several, the last counts; "
                     "of several notebooks, the one with the course's own file name, one in a backup folder last.")
    if stubs:
        notes.append(f"Untouched starters do not count: {_listed(one.where for one in stubs)}.")
    notes += [f"{one.where} does not count: {one.cell.broken}." for one in broken[:3]]
    try:
        made = counts.page.excerpt(counts.cell, counts.statement, name)
    except Broken as error:
        return Answer(exercise, "", tuple(notes), f"{counts.where}: {error}. Mend it and hand it in again.")
    if helpers := [number for number in made.cells if number != counts.cell.number]:
        notes.append(f"It uses other cells of the notebook: {_listed(helpers)}.")
    if made.lab:
        notes.append(f"It uses {_listed(made.lab)}: what hangs on the notebook's lab is not there when an answer "
                     "stands alone. Take it as an argument.")
    if made.unknown:
        hurt = [f"cell {cell.number}: {cell.broken}" for cell in cells if cell.code and cell.broken]
        notes.append(f"It uses {_listed(made.unknown)}, which no cell of the notebook defines"
                     f"{f' (not read: {_listed(hurt)})' if hurt else ''}.")
    return Answer(exercise, made.text, tuple(notes))


def _listed(items, most=5):
    items = list(dict.fromkeys(map(shown, items)))
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
