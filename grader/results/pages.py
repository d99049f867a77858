"""The pages that people read: a student's feedback and the summary of a class.

In: `Result`s. Out: HTML, each page in one file that loads nothing. Every text is cut to a length and escaped.
"""

import statistics
from collections import Counter, defaultdict
from pathlib import Path
from urllib.parse import quote

import jinja2
import numpy as np
from scipy.sparse.csgraph import connected_components

from grader.results.files import (
    COLUMNS,
    DECISIVE,
    FOLDED,
    LOOK,
    UNWRITTEN,
    distance,
    harmless,
    in_force,
    number,
    reasons,
    rows,
    short,
    sorted_notes,
    worth,
)
from grader.results.marks import Mark, changes, history, read_handed_back, read_marks
from lab3.common.files import write_text

FEEDBACK, CLASS = "feedback.html", "class.html"
BINS = 10
SHOWN = 20  # notes and details of an exercise, probes in the table of those that fail most
SLOWEST = 5
SAME_MODEL = 0.8  # of the codes drawn: pairs of 14 trainings share 0.55 to 0.64, a model and a noised copy 0.89
TITLES = {"fid_decoding": "your decoding, on given weights and fresh holes", "fid_model": "the model you trained"}
SIGNS = {"passed": "✓", "partly": "◐", "failed": "✗", "stopped": "■", "not written": "○", "missing": "○"}

PAGES = jinja2.Environment(loader=jinja2.PackageLoader("grader.results"), autoescape=True,
                           undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
PAGES.filters |= {"short": short, "number": number}


def write_feedback(result, folder, mark=None, changed=()):
    """Write one student's page, `feedback.html`, into a folder, as `feedback_page` gives it. Raises `SaveError`."""
    write_text(Path(folder) / FEEDBACK, feedback_page(result, mark, changed))


def write_all_feedback(results, folder):
    """Write the page of each `Result` of a class, with the marks that count in the folder of results.

    Raises:
        InputError: a file that people wrote beside `grades.csv` cannot be used.
        SaveError: a page cannot be written.
    """
    marks, handed_back = read_marks(folder), read_handed_back(folder)
    for result in results:
        mark = marks.get(harmless(result.submission))
        write_feedback(result, Path(folder) / result.submission, mark, mark and changes(history(handed_back, mark)))


def feedback_page(result, mark=None, changed=()):
    """One student's page: the mark, how it was reached, and what the grader found.

    Args:
        result: a `Result`.
        mark: the `Mark` that counts; None: the grader's points alone.
        changed: what has changed since marks were last handed back, as `marks.changes` gives it.
    """
    mark = mark or Mark(result.submission, result.score, result.max_score, 0.0, 0.0, result.score, "", False)
    return PAGES.get_template(FEEDBACK).render(
        result=result, mark=mark, final=mark.automatic if mark.final is None else mark.final, changed=changed or (),
        hand_columns=[(name.replace("_", " "), mark.points.get(name), of) for name, of in mark.hand_columns.items()],
        exercises=[_exercise(one, mark) for one in result.exercises if result.status != "unreadable"],
        titles=TITLES, sandbox=in_force(result.sandbox), decisive=DECISIVE, folded=FOLDED,
        share=_share)


def _exercise(one, mark):
    """What the page shows of an `ExerciseResult`."""
    advice, others, quiet = sorted_notes(one, SHOWN)
    points = mark.points.get(one.exercise, one.points)
    passed = [line for line in zip(one.probes, worth(one), strict=True) if line[0].passed]
    failed, folded = ([{"probes": group, "rows": rows(group[0][0]), "worth": sum(points for _, points in group)}
                       for group in groups if one.status not in UNWRITTEN] for groups in reasons(one))
    return {
        "id": short(one.exercise, 60), "notebook": COLUMNS.get(one.exercise, ""), "status": short(one.status, 40),
        "sign": SIGNS.get(one.status, "✗"), "points": points, "max_points": one.max_points,
        "share": _share(points, one.max_points), "perfect": one.status == "passed",
        "graded": one.points if one.exercise in mark.by_hand else None,  # the grader's, where others count
        "advice": advice, "notes": others, "quiet": quiet, "details": list((one.details or {}).items())[:SHOWN],
        "failed": failed, "folded": folded,
        "passed": passed,
        "discounted": sum(points for _, points in passed) - one.points > 0.005,  # probes that passed and did not count
    }


def _share(points, most):
    """Per cent, from 0 to 100."""
    return min(100.0, max(0.0, 100 * points / most)) if most > 0 else 0.0


def write_class_page(results, path):
    """Write the summary of a class: how it did, what most get wrong, what was slow, a link to each student's page.

    Args:
        results: `Result`s, any number.
        path: the page; links lead to `NAME/feedback.html` beside it.

    Raises:
        SaveError: the page cannot be written.
    """
    results = sorted(results, key=lambda one: one.submission)
    graded = [one for one in results if one.status == "graded"]
    page = PAGES.get_template(CLASS).render(
        results=results, graded=graded, ungraded=[one for one in results if one.status != "graded"],
        scores=_spread([_share(one.score, one.max_score) for one in graded]), bars=histogram(graded),
        exercises=_columns(graded), probes=_most_failed(graded),
        slowest=sorted(graded, key=lambda one: -one.seconds)[:SLOWEST],
        stopped=[(one, [exercise.exercise for exercise in one.exercises if exercise.status == "stopped"])
                 for one in graded if any(exercise.status == "stopped" for exercise in one.exercises)],
        sandboxes=Counter(in_force(one.sandbox) for one in results).most_common(),
        looks=[(one, note) for one in graded for exercise in one.exercises for note in exercise.notes
               if note.startswith(LOOK)],
        seeds=sorted({one.seed for one in results}), distances=_distances(graded), models=_same_models(graded),
        table=[(one, {exercise.exercise: exercise for exercise in one.exercises}) for one in results],
        address=lambda name: f"{quote(name.encode('utf-8', 'replace'), safe='')}/{FEEDBACK}",
        share=_share)
    write_text(path, page)


def _spread(values):
    """Mean, median, standard deviation; None without values."""
    if not values:
        return None
    return {"mean": statistics.fmean(values), "median": statistics.median(values), "sd": statistics.pstdev(values),
            "low": min(values), "high": max(values)}


def histogram(results):
    """How many scores lie in each tenth of the possible points: a list of dicts `low, high, count, height`.

    The last tenth holds full marks, too. `height` is the share of the highest bar.
    """
    counts = Counter(min(BINS - 1, int(_share(one.score, one.max_score) * BINS / 100 + 1e-9)) for one in results)
    most = max(counts.values(), default=1)
    return [{"low": 100 * i // BINS, "high": 100 * (i + 1) // BINS, "count": counts[i], "height": counts[i] / most}
            for i in range(BINS)]


def _columns(results):
    """How the class did in each exercise, in the order of the rubric."""
    found = defaultdict(list)
    for result in results:
        for one in result.exercises:
            found[one.exercise].append(one)
    order = [*(name for name in COLUMNS if name in found), *sorted(found.keys() - COLUMNS.keys())]
    return [{"id": name, "notebook": COLUMNS.get(name, ""), "most": max(one.max_points for one in found[name]),
             "mean": statistics.fmean(one.points for one in found[name]),
             "share": statistics.fmean(_share(one.points, one.max_points) for one in found[name]),
             "full": 100 * statistics.fmean(one.points >= one.max_points - 1e-9 for one in found[name]),
             "todo": sum(one.status in UNWRITTEN for one in found[name])} for name in order]


def _distances(results):
    """The distances of a class, by column that has any."""
    found = defaultdict(list)
    for result in results:
        for one in result.exercises:
            if (value := distance(one)) is not None:
                found[one.exercise].append(value)
    return [{"id": name, "count": len(values), "mean": statistics.fmean(values), "best": min(values),
             "worst": max(values)} for name, values in found.items()]


def _same_models(results):
    """Groups of results whose models draw nearly the same codes, the largest first."""
    made = [(one, exercise.fingerprint) for one in results for exercise in one.exercises if exercise.fingerprint]
    if not made:
        return []
    codes = np.array([np.frombuffer(text.encode(), "S4") for _, text in made])
    same = np.array([(codes == one).mean(axis=1) >= SAME_MODEL for one in codes])
    groups = connected_components(same, directed=False)[1]
    found = [[made[place][0] for place in np.flatnonzero(groups == group)] for group in np.unique(groups)]
    return sorted((group for group in found if len(group) > 1), key=len, reverse=True)[:SHOWN]


def _most_failed(results):
    """The probes that most answers fail, each with the share and the likely reason given most often.

    An answer that was stopped says nothing about the probes that came after.
    """
    asked, failed = Counter(), defaultdict(list)
    for result in results:
        for one in result.exercises:
            for probe in one.probes if one.status not in (*UNWRITTEN, "stopped") else ():
                asked[one.exercise, probe.name] += 1
                if not probe.passed:
                    failed[one.exercise, probe.name].append(probe)
    lines = []
    for key, probes in failed.items():
        reasons = Counter(short(probe.likely) for probe in probes if probe.likely)
        lines.append({
            "exercise": key[0], "title": probes[0].title, "failed": len(probes), "asked": asked[key],
            "share": 100 * len(probes) / asked[key], "likely": reasons.most_common(1)[0] if reasons else None})
    return sorted(lines, key=lambda line: (-line["share"], -line["failed"], line["exercise"], line["title"]))[:SHOWN]
