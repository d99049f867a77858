"""The rubric: points, thresholds and limits, read from `rubric.yml`."""

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from grader.kernels.sandbox import Limits
from lab3.common.files import InputError
from lab3.exercises.table import EXERCISES

RUBRIC = Path(__file__).parent / "rubric.yml"


@dataclass(frozen=True)
class Rubric:
    """Points by column, thresholds of the two distances, limits of a kernel."""

    points: dict
    thresholds: dict
    limits: Limits = field(default_factory=Limits)


def read_rubric(path=RUBRIC):
    """The rubric. Raises `InputError` where a column is missing or unknown."""
    data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    wanted = [*EXERCISES, "fid_decoding", "fid_model"]
    if list(data.get("points", {})) != wanted:
        raise InputError(f"{path}: points must name {', '.join(wanted)}, in this order.")
    return Rubric(data["points"], data.get("thresholds", {}), Limits(**data.get("limits", {})))
