"""The rubric: points, thresholds, limits and what lateness costs, from `rubric.yml` and a course's own file.

In: YAML files. Out: a `Rubric`. A course's file names what differs from the kit's; all of it is checked.
"""

import math
import re
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import yaml
from dateutil import parser

from grader.kernels.sandbox import Limits
from lab3.common.files import InputError
from lab3.exercises.table import EXERCISES

RUBRIC = Path(__file__).parent / "rubric.yml"
NAME = "rubric.yml"  # of the one in a folder of results
PARTS = ("points", "thresholds", "by_hand", "late", "limits")
DISTANCES = ("fid_decoding", "fid_model")
COLUMN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # the name of a column that people mark
# Columns of manual.csv and of the overview of marks that are something else.
TAKEN = ("submission", "exercise", "points", "comment", "student", "score", "manual", "late_percent", "final",
         "max_score", "counts")
DAY = 86400
# What each field says, by its place; `grader rubric` writes it above the field.
SENTENCES = {
    "points": "The points of each column; 0 leaves a column out.",
    "thresholds": "Of the two distances: lower is better, and the first tier reached gives the share of the points.",
    "fid_decoding": "Of what the student's decoding fills on the kit's model; below `at_least` it earns nothing.",
    "fid_model": "Of what the reference decoding fills with the student's model.",
    "by_hand": "The points of each column that people mark, in manual.csv; 0 leaves a column out, other names add one.",
    "late": "What handing in late costs.",
    "deadline": "Until when a submission is on time, such as 2026-12-01 23:59; empty: nothing is late.",
    "zone": "The time zone of the deadline, and of times that name none, such as Europe/Zurich.",
    "grace_minutes": "How long after the deadline a submission still costs nothing.",
    "percent_per_day": "Per cent of the points to take off for each day begun since the deadline.",
    "at_most": "The most that lateness takes off, in per cent.",
    "limits": "What one kernel, which runs an answer, may use.",
    "memory": "Resident bytes of all its processes.",
    "address_space": "Bytes of address space of each process.",
    "file": "Bytes of one file.",
    "folder": "Bytes of all files, in a sandbox.",
    "files": "Number of files, in a sandbox.",
    "sockets": "Number of sockets, in a sandbox.",
    "processes": "Number of processes.",
    "cpu": "Processor seconds of a kernel.",
    "cell": "Processor seconds of a cell.",
    "submission": "Seconds of all cells of a submission, in wall-clock time.",
    "output": "Bytes that a kernel may print.",
}


@dataclass(frozen=True)
class Late:
    """What lateness costs: nothing until the grace has passed, then per cent for each day begun, up to a cap."""

    deadline: datetime | None = None
    zone: str = "UTC"
    grace_minutes: float = 0
    percent_per_day: float = 0
    at_most: float = 100

    def percent(self, submitted, extended=None):
        """Per cent of the points to take off; `extended` is this student's own deadline. Times know their zone."""
        deadline = extended or self.deadline
        if deadline is None or submitted is None:
            return 0.0
        seconds = (submitted - deadline).total_seconds()
        if seconds <= 60 * self.grace_minutes:
            return 0.0
        return float(min(self.at_most, self.percent_per_day * math.ceil(seconds / DAY)))


@dataclass(frozen=True)
class Rubric:
    """Points by column, thresholds of the two distances, limits of a kernel, what lateness costs.

    `by_hand`: the points of the columns that people mark alone, those of 0 points too.
    """

    points: dict
    thresholds: dict
    limits: Limits = field(default_factory=Limits)
    late: Late = field(default_factory=Late)
    by_hand: dict = field(default_factory=dict)

    @property
    def marking(self):
        """What the grader's points depend on: all but lateness and marks by hand, which count later."""
        return self.points, self.thresholds, self.limits


def read_rubric(path=None):
    """The kit's rubric, with what a course's own file says instead.

    Args:
        path: the course's file, which names what differs; None: the kit's alone.

    Raises:
        InputError: no such file, an unknown field, or a value that cannot be used.
    """
    own, own_place = _parts(RUBRIC), RUBRIC
    if path is not None:
        own, own_place = {name: {**own[name], **given} for name, given in _parts(path).items()}, Path(path)
    return Rubric(
        {name: _number(own["points"][name], f"{own_place}: points: {name}") for name in (*EXERCISES, *DISTANCES)},
        {name: _threshold(own["thresholds"][name], f"{own_place}: thresholds: {name}") for name in DISTANCES},
        Limits(**{name: _whole(value, f"{own_place}: limits: {name}") for name, value in own["limits"].items()}),
        _late(own["late"], own_place),
        {name: _number(points, f"{own_place}: by_hand: {name}") for name, points in own["by_hand"].items()})


def rubric_of(folder, given=None):
    """The path of the rubric that counts for a folder of results: the one given, else its own; None: the kit's."""
    own = Path(folder) / NAME
    return given or (own if own.is_file() else None)


def _parts(path):
    """The parts of a rubric file, each a dict of the fields that it names; a missing part is empty."""
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. `python -m grader rubric` prints one to begin with.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable as YAML ({error}). `python -m grader rubric` prints a valid one."
                         ) from None
    known = {"points": (*EXERCISES, *DISTANCES), "thresholds": DISTANCES, "late": tuple(Late.__annotations__),
             "limits": tuple(one.name for one in fields(Limits))}
    data = {} if data is None else data
    _known(data, PARTS, f"{path}: a rubric")
    for name in known:
        _known(data.get(name) or {}, known[name], f"{path}: {name}")
    _by_hand(data.get("by_hand") or {}, f"{path}: by_hand", (*known["points"], *TAKEN))
    return {name: data.get(name) or {} for name in PARTS}


def _known(value, names, where):
    if not isinstance(value, dict):
        raise InputError(f"{where} must hold fields, each a line `name: value`, not {value!r}.")
    if unknown := next((name for name in value if name not in names), None):
        raise InputError(f"{where} has no field {unknown!r}. It may hold {', '.join(names)}.")


def _by_hand(columns, where, taken):
    _known(columns, columns, where)
    for name in columns:
        if not COLUMN.fullmatch(str(name)) or name in taken:
            raise InputError(f"{where}: {name!r} cannot name a column. Use letters, digits and _, and none of "
                             f"{', '.join(taken)}.")


def _number(value, where, most=math.inf):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise InputError(f"{where} must be a number that is not negative, not {value!r}.")
    if value > most:
        raise InputError(f"{where} is {most} at most, not {value!r}.")
    return value


def _whole(value, where):
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{where} must be a whole number from 1 on, not {value!r}.")
    return value


def _threshold(value, where):
    _known(value, ("at_least", "tiers", "measured"), where)
    tiers, last = value.get("tiers"), (0.0, 1.0)
    if not isinstance(tiers, list) or not tiers:
        raise InputError(f"{where}: tiers must be a list of entries such as {{at_most: 155, share: 1.0}}.")
    for tier in tiers:
        _known(tier, ("at_most", "share"), f"{where}: a tier")
        found = tuple(_number(tier.get(name), f"{where}: {name}") for name in ("at_most", "share"))
        if found[0] <= last[0] or found[1] > last[1]:
            raise InputError(f"{where}: from tier to tier at_most must rise, and share fall from 1 at most.")
        last = found
    return value | {"at_least": _number(value.get("at_least", 0), f"{where}: at_least")}


def _late(settings, path):
    zone = str(settings.get("zone", "UTC"))
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise InputError(f"{path}: late: zone {zone!r} is unknown. Write one such as Europe/Zurich.") from None
    for name in ("grace_minutes", "percent_per_day", "at_most"):
        _number(settings.get(name, 0), f"{path}: late: {name}", 100 if name == "at_most" else math.inf)
    deadline = settings.get("deadline")
    if deadline is not None:
        deadline = read_time(str(deadline), zone, f"{path}: late: deadline", deadline=True)
    return Late(**{**settings, "zone": zone, "deadline": deadline})


def read_time(text, zone, where, deadline=False):
    """A time that knows its zone: `zone`'s where the text names none; None for an empty text or a dash.

    Args:
        text: as ISO 8601 has it, or with the month's English name, as Moodle writes it.
        deadline: whether the hour must be named.

    Raises:
        InputError: it cannot be read; the message begins with `where`.
    """
    if text.strip() in ("", "-"):
        return None
    try:
        if not re.search("[A-Za-z]{3}", text):  # 03/04/2026 is one day here, another there
            time = datetime.fromisoformat(text.strip())
        else:
            time = parser.parse(text)
        if deadline and ":" not in text:
            raise ValueError("no hour")
    except (ValueError, OverflowError):
        raise InputError(f"{where}: {text!r} is no time. Write it such as 2026-12-01 23:59.") from None
    return (time if time.tzinfo else time.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


def rubric_text(rubric):
    """A rubric as a file that `read_rubric` takes, with a sentence above each field."""
    late = asdict(rubric.late) | {"deadline": rubric.late.deadline and rubric.late.deadline.isoformat()}
    lines = []
    for part, values in (("points", rubric.points), ("thresholds", rubric.thresholds),
                         ("by_hand", rubric.by_hand), ("late", late), ("limits", asdict(rubric.limits))):
        lines += [f"# {SENTENCES[part]}", f"{part}:"]
        for name, value in values.items():
            if part == "thresholds":
                value = {key: one for key, one in value.items() if key != "measured"}
            lines += [] if part in ("points", "by_hand") else [f"  # {SENTENCES[name]}"]
            shown = "" if value is None else yaml.safe_dump({name: value}, default_flow_style=True, width=math.inf)
            lines += [f"  {shown.strip()[1:-1] or f'{name}:'}"]
    return "\n".join(lines) + "\n"
