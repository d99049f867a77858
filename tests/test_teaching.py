"""What teachers rely on in docs/TEACHING.md: points and minutes are the kit's, answers are what the code gives."""

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from scipy import stats

from grader.rubric import read_rubric
from lab3.common.paths import SOLUTIONS
from lab3.exercises.answers import link, read_answer
from lab3.exercises.table import ALL_EXERCISES, EXERCISES

TEXT = (ROOT / "docs" / "TEACHING.md").read_text(encoding="utf-8")
SOURCES = {path.stem[:2]: path.read_text(encoding="utf-8")
           for path in sorted((ROOT / "solutions" / "source").glob("[0-9][0-9]_*.py"))}
EXAMINATION = dict(re.findall(r"^(\d+)\. (.+?)(?=^\d+\. |^## )", TEXT.partition("## Examination")[2],
                              re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def right():
    """The reference answers: exercise id -> what it defines."""
    found = {name: read_answer(SOLUTIONS, name) for name in ALL_EXERCISES}
    link(found)
    return {name: found[name][one.defines] for name, one in ALL_EXERCISES.items()}


def section(heading):
    return re.search(rf"^#+ {heading}\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)[1]


def test_goals_have_the_points_of_the_rubric_and_the_minutes_of_the_notebooks():
    rows = re.findall(r"^\| .+ \| `(\w+)` \| (\d\d) \| (\d*) ?\| (\d+) \|$", section("Learning goals"), re.MULTILINE)
    assert {name: int(points) for name, _, _, points in rows} == read_rubric().points
    for name, notebook, minutes, _ in rows:
        if name in EXERCISES:
            asked = re.search(rf"# ## Exercise: `{name}`\n#\n# \*About (\d+) minutes", SOURCES[notebook])
            assert (EXERCISES[name].notebook, asked[1]) == (notebook, minutes)


def test_plans_use_the_notebooks_minutes():
    said = {number: re.search(r"about (\d+) minutes for you", source)[1] for number, source in SOURCES.items()}
    assert "for a student: " + ", ".join(f"{number} {minutes}" for number, minutes in said.items()) in TEXT
    hours, minutes = divmod(sum(int(minutes) for number, minutes in said.items() if number <= "06"), 60)
    assert f"{hours} h {minutes:02d}" in re.sub(r"\s+", " ", TEXT)
    assert sum(map(int, re.findall(r"^\| (\d+) \| ", TEXT.partition("**90 minutes**")[2].partition("**One day**")[0],
                                   re.MULTILINE))) == 90


def test_every_column_marked_by_hand_and_every_question_is_answered():
    marked, told = section("Marking by hand"), read_rubric().by_hand
    assert all(f"`{name}`" in marked for name in told)
    for number, source in list(SOURCES.items())[1:]:
        questions = re.search(r"# ## Explain\n(.*?)\n\n", source, re.DOTALL)[1]
        answers = re.search(rf"^\*\*{number}\*\* \(`questions_{number}`\)\n\n(.*?)(?=^\*\*|^## |\Z)", marked,
                            re.DOTALL | re.MULTILINE)[1]
        asked = re.findall(r"^# (\d)\. ", questions, re.MULTILINE)
        assert 2 <= len(asked) <= 3 and re.findall(r"^(\d)\. ", answers, re.MULTILINE) == asked
        assert re.findall(r"^# (\d)\. …", source, re.MULTILINE) == asked
        for name in told:
            assert name not in source


def factors(configure, places, **settings):
    optimizer, scheduler = configure(torch.nn.Linear(1, 1), 1.0, **settings)
    found = []
    for _ in range(max(places) + 1):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return [f"{found[place]:.3f}".rstrip("0").rstrip(".") for place in places]


def counts(gamma, steps, hidden):
    return [math.floor(gamma((t + 1) / steps) * hidden) for t in range(steps)]


def limit(n, sd):
    """The least difference of two means that Welch's test shows, n seeds with this spread on each side."""
    return stats.t.ppf(0.975, 2 * n - 2) * math.sqrt(2 * sd**2 / n)


def confident(right):
    """How often the likelier value comes out of two independent tokens, one kept a step, without noise."""
    def transformer(z):
        return torch.tensor([0.9, 0.1, 1e-12]).log().expand(*z.shape, 3)

    z, _ = right["iterative_decode"](
        transformer, torch.zeros(20_000, 2, dtype=torch.long), torch.ones(20_000, 2, dtype=torch.bool),
        gamma=right["gamma_func"]("linear"), total_iter=2, choice_temperature=0.0, mask_token_id=2,
        generator=torch.Generator().manual_seed(0))
    return (z == 0).float().mean().item()


def test_model_answers_of_the_examination_are_what_the_code_gives(right):
    assert list(EXAMINATION) == [str(number) for number in range(1, 21)]
    gamma, configure = right["gamma_func"], right["configure_optimizers"]
    attention = [sum(p.numel() for p in right["multi_head_attention"](768, heads).parameters()) for heads in (16, 8)]
    assert attention[0] == attention[1]
    places = F.cross_entropy(torch.zeros(1, 64, 512), F.one_hot(torch.zeros(1, 64, dtype=torch.long), 512).float())
    three = right["mvtm_loss"](torch.tensor([[[0.5, 0.5], [0.25, 0.75], [0.125, 0.875]]]).log(),
                               torch.zeros(1, 3, dtype=torch.long))
    small = right["iterative_decode"](
        lambda z: torch.zeros(*z.shape, 5), torch.zeros(1, 2, dtype=torch.long), torch.ones(1, 2, dtype=torch.bool),
        gamma=gamma("cosine"), total_iter=8, mask_token_id=4)[1]
    assert [int(mask.sum()) for _, mask in small] == [1, *[0] * 7]
    assert abs(confident(right) - 0.945) < 0.005
    left = counts(gamma("cosine"), 5, 60)
    said = {
        1: f"{2 * 16 * 256 * 256:,} numbers, {2 * 16 * 256 * 256 * 4:,} bytes", 2: f"= {attention[0]:,}",
        3: f"{math.sqrt(48):.2f}; √(48 / 768) = {math.sqrt(48 / 768):.2f}",
        4: f"{98304 / 2560}; 98,304 / {256 * 12:,} = {98304 / (256 * 12):.0f}",
        5: f"= {int(right['sample_mask'](1, 256, ratio=0.3).sum())}, always", 7: f"= {three:.3f}",
        8: f"= {places:.3f} instead of ln 512 = {math.log(512):.3f}",
        10: "{}; p = 675 / 1350 = ½, so 0.01 + 0.99 · ½ = {}; {}.".format(
            *factors(configure, (75, 825, 1500), total_steps=1500, warmup_steps=150, eta_min=0.01)),
        11: f"{', '.join(factors(configure, (0, 1, 2), total_steps=3, warmup_steps=1))}:",
        14: f"{', '.join(map(str, left))}; so {', '.join(map(str, -np.diff([60, *left])))}.",
        17: "= 2/3" if math.isclose(0.8**0.5 / (0.8**0.5 + 0.2**0.5), 2 / 3) else "wrong", 18: "On average 0.945",
        19: f"(2 + 1) = {right['frechet_distance'](np.zeros(2), np.diag([4.0, 1]), np.zeros(2), np.eye(2)):.0f}.",
        20: f"limit {limit(4, 0.4):.3f} > 0.6"}
    for number, answer in said.items():
        assert answer in re.sub(r"\s+", " ", EXAMINATION[str(number)]), number


def test_model_answers_of_the_notebooks_are_what_the_code_gives(right):
    text, gamma = re.sub(r"\s+", " ", section("Marking by hand")), right["gamma_func"]
    logits = torch.zeros(1, 1, 1024)
    smoothed = right["mvtm_loss"](logits, torch.zeros(1, 1, dtype=torch.long), label_smoothing=0.1)
    linear = [counts(gamma("linear"), 8, 100)[2], counts(gamma("linear"), 4, 100)[2]]
    anew, left = [], 100
    for t in range(4):
        left = math.floor(gamma("linear")((t + 1) / 4) * left)
        anew.append(left)
    guided = [right["guided_logits"](torch.tensor([0.5, 0.5]).log(), torch.tensor([0.2, 0.8]).log(), s).softmax(0)
              for s in (1, 3)]
    for answer in (
            f"1. ln 1024 = {smoothed:.3f}", f"ln 1025 = {math.log(1025):.3f} instead",
            ", ".join(factors(right["configure_optimizers"], (0, 5, 10, 55, 100), total_steps=100, warmup_steps=10,
                              eta_min=0.1)),
            "; ".join(f"{name} {', '.join(map(str, counts(gamma(name), 4, 100)))}" for name in ("cosine", "square")),
            f"2. {linear[0]} and {linear[1]}.", f"2. {', '.join(map(str, anew))} instead of",
            f"limit {limit(5, 0.5):.3f} > 0.7", f"limit {limit(10, 0.5):.3f} < 0.7",
            f"so {guided[0][0]:.1f} and {guided[0][1]:.1f}. s = 3: {guided[1][0]:.3f} and {guided[1][1]:.3f}"):
        assert answer in text, answer
    distance = right["frechet_distance"](np.array([1.0]), np.array([[4.0]]), np.array([4.0]), np.array([[1.0]]))
    assert f"= {distance:.0f}; with numbers twice as large {4 * distance:.0f}" in text
