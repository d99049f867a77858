"""What grading gives: plain data, one `Result` a submission.

In: what the grader found. Out: the same as dataclasses, and to and from JSON-able dicts.
"""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class ProbeResult:
    """One question to an answer, and how it went. All texts may be read by the student."""

    name: str
    title: str
    weight: int
    passed: bool
    expected: str = ""
    got: str = ""
    likely: str = ""
    place: str = ""  # the line of the answer at which an exception left it
    seconds: float = 0.0
    decisive: bool = False  # while it fails, the exercise gives no points


@dataclass(frozen=True)
class ExerciseResult:
    """One column of the marks.

    Attributes:
        exercise: an id of the rubric: an exercise's, `fid_decoding` or `fid_model`.
        status: "passed", "partly", "failed", "not written", "missing", or "stopped" (a limit of time, memory or
            processes was reached, or the kernel died).
        notes: which cell counted and why, what was left out; for the student.
        details: numbers such as a distance, name -> text.
        fingerprint: of a model, for staff: what it draws, four digits a code; two of one run can be compared.
        key: the content hash of what the marks depend on: the answer, its probes, points and seed. Equal keys need no
            second grading.
    """

    exercise: str
    points: float
    max_points: float
    status: str
    probes: tuple = ()
    notes: tuple = ()
    details: dict = None
    seconds: float = 0.0
    fingerprint: str = ""
    key: str = ""


@dataclass(frozen=True)
class Result:
    """The marks of one submission.

    Attributes:
        submission: its name, that of its folder in the results.
        status: "graded", "unreadable" (nothing could be read: score 0), or "error" (the grader itself failed).
        sandbox: the level in force: "bubblewrap", "user" or "limits".
        key: the content hash of the exercises' keys.
    """

    submission: str
    score: float
    max_score: float
    status: str
    sandbox: str
    seconds: float
    seed: int
    key: str
    exercises: tuple = ()
    notes: tuple = ()


def to_dict(result):
    """A JSON-able dict."""
    return asdict(result)


def from_dict(data):
    """The `Result` that `to_dict` was given."""
    exercises = tuple(
        ExerciseResult(**{**one, "probes": tuple(ProbeResult(**probe) for probe in one["probes"]),
                          "notes": tuple(one["notes"])}) for one in data["exercises"])
    return Result(**{**data, "exercises": exercises, "notes": tuple(data["notes"])})
