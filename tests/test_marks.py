"""The marks that count, and the files for Canvas and Moodle: lateness, what people add, whose is which."""

import csv
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from grader.cli import main
from grader.results import marks, roster
from grader.results.files import write_grades
from grader.results.pages import feedback_page
from grader.results.result import ExerciseResult, Result
from grader.rubric import Late, read_rubric, read_time
from grader.run.keys import column_keys
from lab3.common.files import InputError

CASES = ROOT / "tests" / "cases"
DEADLINE = datetime(2026, 12, 1, 23, 59, tzinfo=UTC)
POLICY = Late(DEADLINE, grace_minutes=15, percent_per_day=10, at_most=50)


def result(name, status="graded", **points):
    """Marks with these points, each of 10."""
    found = tuple(ExerciseResult(one, value, 10.0, "partly") for one, value in points.items())
    return Result(name, sum(points.values()), 20.0, status, "limits", 1.0, 1, "", found)


@pytest.fixture
def grades(tmp_path):
    """A class of three: its folder."""
    out = tmp_path / "grades"
    write_grades([result("ada_lovelace", gamma_func=8.0, mvtm_loss=6.0), result("bob", gamma_func=10.0, mvtm_loss=10.0),
                  result("cy", "error", gamma_func=0.0, mvtm_loss=0.0)], out / "grades.csv")
    return out


def table(path, *rows):
    """Write a CSV file."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def after(**span):
    return DEADLINE + timedelta(**span)


@pytest.mark.parametrize(("submitted", "percent"), [
    (after(days=-3), 0), (DEADLINE, 0), (after(minutes=15), 0), (after(minutes=15, seconds=1), 10), (after(days=1), 10),
    (after(days=1, seconds=1), 20), (after(days=4, hours=1), 50), (after(days=90), 50), (None, 0)])
def test_lateness_costs_by_the_day_begun_after_a_grace_up_to_a_cap(submitted, percent):
    assert POLICY.percent(submitted) == percent


def test_an_extension_is_a_deadline_of_ones_own():
    assert POLICY.percent(after(days=2), extended=after(days=2)) == 0
    assert POLICY.percent(after(days=2, hours=1), extended=after(days=2)) == 10
    assert POLICY.percent(after(days=2), extended=after(days=-1)) == 30
    assert replace(POLICY, deadline=None).percent(after(days=9)) == 0


@given(st.floats(-1e6, 1e7), st.floats(0, 1e5))
def test_who_is_later_never_pays_less(seconds, more):
    first, second = (POLICY.percent(after(seconds=one)) for one in (seconds, seconds + more))
    assert 0 <= first <= second <= 50


@pytest.mark.parametrize(("text", "hour"), [
    ("2026-07-01 12:00", 10), ("2026-12-01 12:00", 11), ("2026-12-01T12:00:00+03:00", 9), ("2026-12-01T12:00:00Z", 12),
    ("Tuesday, 1 December 2026, 12:00 PM", 11), ("1 Dec 2026 12:00", 11)])
def test_times_are_read_in_their_zone(text, hour):
    assert read_time(text, "Europe/Zurich", "x").hour == hour


@pytest.mark.parametrize("text", ["soon", "10", "03/04/2026 12:00", "2026-13-01", "ten to five", "0"])
def test_what_is_no_time_is_named(text):
    with pytest.raises(InputError, match=r"roster: bob: .* is no time"):
        read_time(text, "UTC", "roster: bob")


def policy(tmp_path, **late):
    path = tmp_path / "rubric.yml"
    path.write_text(yaml.safe_dump({"late": late}))
    return path


def test_the_policy_of_the_rubric(tmp_path):
    assert read_rubric().late.deadline is None and read_rubric().late.percent_per_day == 10
    late = read_rubric(policy(tmp_path, deadline="2026-12-02 00:59", zone="Europe/Zurich", percent_per_day=5)).late
    assert late.deadline == DEADLINE and late.percent(after(days=9)) == 45
    path = tmp_path / "typed.yml"
    path.write_text("late:\n  deadline: 2026-12-01 23:59:00\n")
    assert read_rubric(path).late.deadline == DEADLINE


@pytest.mark.parametrize("late", [
    {"deadline": "tomorrow"}, {"deadline": "2026-12-01"}, {"zone": "Mars/Base"}, {"percent_per_day": -1},
    {"at_most": 101}, {"grace_minutes": "ten"}, {"grace": 5}, {"percent_per_day": True}, {"at_most": float("nan")}])
def test_a_policy_that_cannot_be_used_is_named(tmp_path, late):
    with pytest.raises(InputError, match=r"rubric\.yml: late"):
        read_rubric(policy(tmp_path, **late))


def test_another_policy_grades_nobody_again_and_other_points_one_exercise(tmp_path):
    keys, path = column_keys(1, read_rubric()), tmp_path / "rubric.yml"
    path.write_text("late: {percent_per_day: 20}\n")
    assert read_rubric(path).late.percent_per_day == 20 and column_keys(1, read_rubric(path)) == keys
    path.write_text("by_hand: {oral: 5}\n")
    assert read_rubric(path).marking == read_rubric().marking
    path.write_text("points: {gamma_func: 5}\n")
    found = column_keys(1, read_rubric(path))
    assert [name for name in keys if found[name] != keys[name]] == ["gamma_func"]


def test_what_people_add_is_merged(grades):
    table(grades / "manual.csv", MANUAL,
          ["ada_lovelace", "mvtm_loss", "9", "right, but for the name"], ["ada_lovelace", "", "-1", ""],
          ["ada_lovelace", "", "", "see me"], ["bob", "", "2.5", "a good report"])
    found = marks.read_marks(grades, POLICY)
    ada, bob = found["ada_lovelace"], found["bob"]
    assert (ada.automatic, ada.manual, ada.final) == (14, 2, 16)
    assert ada.comment == "mvtm_loss: right, but for the name\nsee me"
    assert (bob.final, bob.comment) == (22.5, "a good report")
    assert found["cy"].final is None


def test_a_regrade_leaves_what_people_wrote_and_it_still_counts(grades):
    path = table(grades / "manual.csv", MANUAL,
                 ["ada_lovelace", "mvtm_loss", "9", "by hand"])
    before = path.read_bytes()
    write_grades([result("ada_lovelace", gamma_func=9.0, mvtm_loss=10.0)], grades / "grades.csv")
    assert path.read_bytes() == before
    assert marks.read_marks(grades, POLICY)["ada_lovelace"].final == 18, "points by hand take the place of the grader's"


def test_lateness_comes_off_what_was_reached(grades):
    table(grades / "submitted.csv", ["submission", "submitted"], ["ada_lovelace", "2026-12-02 12:00"],
          ["bob", "2026-12-04 00:30"])
    table(grades / "extensions.csv", ["submission", "deadline"], ["bob", "2026-12-03 23:59"])
    table(grades / "manual.csv", MANUAL, ["ada_lovelace", "", "-30", ""])
    found = marks.read_marks(grades, POLICY, {"bob": "2026-11-01 00:00", "cy": "2026-12-02 12:00"})
    assert (found["ada_lovelace"].late, found["ada_lovelace"].final) == (10, 0), "never below nothing"
    assert (found["bob"].late, found["bob"].final) == (10, 18), "submitted.csv says more than the roster"
    assert found["cy"].late == 10


MANUAL = ["submission", "exercise", "points", "comment"]
REPORT = {"report_decoding": 5, "oral": 3, "questions_05": 0}


def by_hand(grades, **columns):
    """Give a folder of results a rubric with columns that people mark."""
    (grades / "rubric.yml").write_text(yaml.safe_dump({"by_hand": columns or REPORT}))
    return grades


def test_columns_that_people_mark_count_and_are_exported(grades, tmp_path, capsys):
    table(by_hand(grades) / "manual.csv", [*MANUAL, "report_decoding"], ["ada_lovelace", "oral", "2", "clear", ""],
          ["ada_lovelace", "", "", "well argued", "4.5"], ["bob", "mvtm_loss", "9", "", "0"], ["cy", "", "", "", "5"])
    found = marks.read_marks(grades, POLICY)
    ada, bob, cy = found["ada_lovelace"], found["bob"], found["cy"]
    assert (ada.automatic, ada.manual, ada.final, ada.most) == (14, 6.5, 20.5, 28)
    assert ada.points == {"gamma_func": 8, "mvtm_loss": 6, "oral": 2, "report_decoding": 4.5}
    assert ada.comment == "oral: clear\nwell argued"
    assert (bob.manual, bob.final, bob.points["report_decoding"]) == (-1, 19, 0) and "oral" not in bob.points
    assert cy.final is None, "no mark where the grader broke down"

    path = canvas(tmp_path, ["Lovelace, Ada", "11", "ada", "A", "9", ""], ["Bo, Bob", "12", "bob", "A", "8", "3"],
                  possible="28")
    assert main(["export", "canvas", "--grades", str(grades), "--roster", str(path)]) == 1
    assert "oral not marked yet, so 0 points: bob, cy. Put the points into manual.csv." in capsys.readouterr().err
    assert [row["lab3 (77)"] for row in read(grades / "canvas.csv")] == ["28", "20.5", "19"]
    overview = {row["submission"]: row for row in read(grades / "marks.csv")}
    assert (overview["ada_lovelace"]["report_decoding"], overview["bob"]["oral"]) == ("4.5", "")
    assert "questions_05" not in overview["bob"], "a column of 0 points is left out"


def test_a_page_shows_what_people_marked(grades):
    table(by_hand(grades) / "manual.csv", [*MANUAL, "oral"], ["bob", "", "", "", "2.5"])
    page = feedback_page(result("bob", gamma_func=10.0, mvtm_loss=10.0), marks.read_marks(grades, POLICY)["bob"])
    said = " ".join(re.sub("<[^>]+>", " ", page).split())
    assert "22.5 of 28 points" in said and "oral 2.5 / 3" in said and "report decoding not marked yet; 0 / 5" in said


def test_without_points_in_the_rubric_people_mark_nothing(grades):
    assert not any(read_rubric().by_hand.values()) and len(read_rubric().by_hand) == 12
    assert marks.read_marks(grades, POLICY)["bob"].most == 20
    page = feedback_page(result("bob", gamma_func=10.0), marks.read_marks(grades, POLICY)["bob"])
    assert "Marked by hand" not in page


def test_marks_by_hand_change_after_they_were_handed_back(grades):
    by_hand(grades)
    for points in ("1", "3"):
        table(grades / "manual.csv", MANUAL, ["bob", "oral", points, ""])
        marks.hand_back(grades, marks.read_marks(grades, POLICY), {})
    assert "oral: 1 before, 3 now" in marks.changes(marks.read_handed_back(grades)["marks"]["bob"])


@pytest.mark.parametrize(("rows", "said"), [
    ([MANUAL, ["bob", "oral", "4", ""]], r"oral has 3 points at most by the rubric \(by_hand\), not 4"),
    ([MANUAL, ["bob", "questions_05", "1", ""]], "questions_05 has 0 points at most"),
    ([MANUAL, ["bob", "oral", "-1", ""]], "not negative"),
    ([[*MANUAL, "oral"], ["bob", "oral", "1", "", "1"]], "already"),
    ([MANUAL, ["bob", "orall", "1", ""]], "'orall' was not graded. Name one of .*, oral,")])
def test_points_that_a_column_by_hand_cannot_have_are_named(grades, rows, said):
    table(by_hand(grades) / "manual.csv", *rows)
    with pytest.raises(InputError, match=said):
        marks.read_marks(grades, POLICY)


@pytest.mark.parametrize("name", ["gamma_func", "final", "an oral", "=cmd"])
def test_a_column_by_hand_needs_a_name_of_its_own(grades, name):
    with pytest.raises(InputError, match=r"rubric\.yml: by_hand: .* cannot name a column"):
        read_rubric(by_hand(grades, **{name: 3}) / "rubric.yml")


@pytest.mark.parametrize(("name", "rows", "said"), [
    ("manual.csv", [["submission", "points"], ["bob", "1"]], "no column exercise"),
    ("manual.csv", [MANUAL, ["dan", "", "1", ""]], "row 2: no submission 'dan'"),
    ("manual.csv", [MANUAL, ["bob", "inpainting", "1", ""]], "not graded"),
    ("manual.csv", [MANUAL, ["bob", "", "many", ""]], "no number of points"),
    ("manual.csv", [MANUAL, ["bob", "", "nan", ""]], "no number of points"),
    ("manual.csv", [MANUAL, ["bob", "gamma_func", "-1", ""]], "not negative"),
    ("manual.csv", [MANUAL, *2 * [["bob", "gamma_func", "1", ""]]], "already"),
    ("manual.csv", [MANUAL, ["bob", "", "1", "a", "b"]], "more cells"),
    ("extensions.csv", [["submission", "deadline"], ["bob", "2026-12-24"]], "is no time"),
    ("submitted.csv", [["submission", "submitted"], ["dan", "2026-12-01 12:00"]], "no submission 'dan'")])
def test_files_that_cannot_be_used_are_named(grades, name, rows, said):
    table(grades / name, *rows)
    with pytest.raises(InputError, match=said) as error:
        marks.read_marks(grades, POLICY)
    assert name in str(error.value)


@pytest.mark.parametrize("text", [
    "submission;score\nbob;1\n", "\ufeffsubmission\tscore\r\nbob\t1\r\n", 'submission,score\n\n"bob",1\n,\n'])
def test_tables_are_read_as_people_save_them(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    assert marks.read_table(path) == (["submission", "score"], [{"submission": "bob", "score": "1"}])


def test_cells_with_line_ends_stay_whole(tmp_path):
    path = table(tmp_path / "t.csv", ["a", "b"], ["one\ntwo", 'say "so", she said'])
    assert marks.read_table(path)[1] == [{"a": "one\ntwo", "b": 'say "so", she said'}]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'a,b\n"x,1\n'])
def test_a_damaged_table_is_named(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"t\.csv: not readable"):
        marks.read_table(tmp_path / "t.csv")


def canvas(tmp_path, *rows, column="lab3 (77)", possible="20"):
    return table(tmp_path / "canvas-export.csv", ["Student", "ID", "SIS Login ID", "Section", "Quiz (5)", column],
                 ["    Points Possible", "", "", "", "10", possible], *rows)


def test_canvas_gets_its_own_gradebook_with_the_column_filled(grades, tmp_path, capsys):
    path = canvas(tmp_path, ["Lovelace, Ada", "11", "ada", "A", "9", ""], ["Bo, Bob", "12", "bob", "A", "8", "3"],
                  ["Young, Cy", "13", "cy", "B", "7", "4"], ["Dahl, Dan", "14", "dan", "B", "6", ""])
    arguments = ["export", "canvas", "--grades", str(grades / "grades.csv"), "--roster", str(path)]
    assert main(arguments) == 1, "one has no mark"
    assert "the grader broke down: cy" in capsys.readouterr().err
    found = read(grades / "canvas.csv")
    assert list(found[0]) == ["Student", "ID", "SIS Login ID", "Section", "lab3 (77)"]
    assert [row["lab3 (77)"] for row in found] == ["20", "14", "20", "4", ""]
    assert found[0]["Student"].strip() == "Points Possible"
    overview = {row["submission"]: row for row in read(grades / "marks.csv")}
    assert overview["ada_lovelace"]["student"] == "Lovelace, Ada" and overview["cy"]["final"] == ""
    assert main([*arguments, "--assignment", "Lab Three", str(tmp_path / "new.csv")]) == 1
    assert "canvas-export.csv has no column Lab Three, so Canvas makes a new assignment" in capsys.readouterr().err
    assert [row["Lab Three"] for row in read(tmp_path / "new.csv")] == ["20", "14", "20", "", ""]


def test_canvas_with_other_points_is_refused(grades, tmp_path):
    path = canvas(tmp_path, ["Bo, Bob", "12", "bob", "A", "8", ""], possible="100")
    with pytest.raises(InputError, match="100 points possible, the grades 20"):
        roster.hand_over("canvas", grades, path)
    assert not (grades / "canvas.csv").exists()


WORKSHEET = ["Identifier", "Full name", "Email address", "Status", "Grade", "Maximum Grade", "Grade can be changed",
             "Last modified (submission)", "Last modified (grade)", "Feedback comments"]


def test_moodles_worksheet_is_filled_in_and_its_times_count(grades, tmp_path):
    (grades / "rubric.yml").write_text("late: {deadline: 2026-12-01 23:59}\n")
    path = table(tmp_path / "sheet.csv", WORKSHEET, *(
        [f"Participant {number}", name, f"{name.split()[0]}@x.org", "Submitted", "", "20.00", "Yes", time, "-", said]
        for number, name, time, said in [(5, "Ada Lovelace", "Wednesday, 2 December 2026, 3:00 PM", "well done"),
                                         (6, "Bob", "Monday, 30 November 2026, 3:00 PM", ""), (7, "Eve", "-", "")]))
    table(grades / "manual.csv", MANUAL, ["ada_lovelace", "", "1", "=neat"])
    done = roster.hand_over("moodle", grades, path)
    assert done.written == 2 and any("no student of the roster: cy" in one for one in done.remarks)
    found = read(grades / "moodle.csv")
    assert list(found[0]) == WORKSHEET
    assert [row["Grade"] for row in found] == ["13.5", "20", ""]
    assert found[0]["Feedback comments"] == "well done\n=neat" and found[1]["Status"] == "Submitted"
    again = roster.hand_over("moodle", grades, grades / "moodle.csv", tmp_path / "again.csv")
    assert again.written == 2 and read(tmp_path / "again.csv") == found, "a comment is added once"


def test_moodles_participants_become_a_table_to_import(grades, tmp_path):
    path = table(tmp_path / "people.csv", ["First name", "Last name", "ID number", "Email address"],
                 ["Ada", "Lovelace", "5", "ada@x.org"], ["Bob", "Bo", "bob", "bob@x.org"])
    roster.hand_over("moodle", grades, path)
    found = read(grades / "moodle.csv")
    assert [(row["Email address"], row["lab3"]) for row in found] == [("ada@x.org", "14"), ("bob@x.org", "20")]


def test_moodle_with_another_maximum_is_refused(grades, tmp_path):
    path = table(tmp_path / "sheet.csv", WORKSHEET, ["Participant 6", "Bob", "", "", "", "100.00", "Yes", "-", "-", ""])
    with pytest.raises(InputError, match="the maximum grade is 100, that of the grades 20"):
        roster.hand_over("moodle", grades, path)


PEOPLE = [{"Student": "Lovelace, Ada", "ID": "11", "SIS Login ID": "al1", "submission": ""},
          {"Student": "Smith, Jo", "ID": "12", "SIS Login ID": "jo@x.org", "submission": ""},
          {"Student": "Smith, Jo", "ID": "13", "SIS Login ID": "jo2", "submission": "group-3"}]


@pytest.mark.parametrize(("name", "owner"), [
    ("lovelaceada_11_canvas", "11"), ("smithjo_77_canvas", None), ("lovelaceada_11_99_lab3", "11"),
    ("lovelaceada_LATE_11_99_lab3-2", "11"), ("al1", "11"), ("Lovelace_Ada", "11"),
    ("Ada_Lovelace", "11"), ("11", "11"), ("jo_x.org", "12"), ("JO2", "13"), ("group-3", "13"), ("Jo_Smith", None),
    ("submission_99", None), ("smithjo_77_99_lab3", None)])
def test_a_submission_finds_its_student_or_nobody(name, owner):
    [row] = roster.owners_of([name], PEOPLE, ["Student", "ID", "SIS Login ID"]).values()
    assert (row and row["ID"]) == owner


@pytest.mark.parametrize(("name", "owner"), [
    ("José_García", "1"), ("Jose_Garcia", "2"), ("Émile_Zola", "3"), ("Emile_Zola", "3"), ("Jóse_Garcia", None)])
def test_names_that_differ_in_accents_alone_are_told_apart(name, owner):
    people = [{"Student": student, "ID": number} for student, number in
              (("García, José", "1"), ("Garcia, Jose", "2"), ("Zola, Émile", "3"))]
    [row] = roster.owners_of([name], people, ["Student", "ID"]).values()
    assert (row and row["ID"]) == owner


def test_moodles_downloads_find_their_students():
    people = [{"Full name": name, "Identifier": f"Participant {number}"} for name, number in
              (("Jo Smith", 51), ("Jo Smith", 52))]
    [row] = roster.owners_of(["Jo_Smith_52_assignsubmission_file"], people, ["Full name", "Identifier"]).values()
    assert row["Identifier"] == "Participant 52"


def twice(tmp_path, **times):
    """A class in which Ada handed in twice, the second time worse: grades and roster."""
    write_grades([result("ada", gamma_func=8.0, mvtm_loss=6.0), result("11", gamma_func=7.0, mvtm_loss=1.0)],
                 tmp_path / "grades.csv")
    if times:
        table(tmp_path / "submitted.csv", ["submission", "submitted"], *times.items())
    return tmp_path, canvas(tmp_path, ["Lovelace, Ada", "11", "ada", "A", "", ""])


def test_two_submissions_of_one_student_are_named(tmp_path):
    with pytest.raises(InputError, match="Lovelace, Ada has two submissions, 11 and ada. Add --latest or --best"):
        roster.hand_over("canvas", *twice(tmp_path))
    with pytest.raises(InputError, match=r"no time tells which is the latest. Put their times into submitted.csv"):
        roster.hand_over("canvas", *twice(tmp_path), choose="latest")


@pytest.mark.parametrize(("choose", "mark"), [("best", "14"), ("latest", "8")])
def test_of_two_submissions_the_chosen_one_counts(tmp_path, choose, mark):
    grades, people = twice(tmp_path, **{"ada": "2026-12-01 12:00", "11": "2026-12-01 13:00"})
    assert roster.hand_over("canvas", grades, people, choose=choose).written == 1
    assert read(tmp_path / "canvas.csv")[1]["lab3 (77)"] == mark
    assert {row["counts"] for row in read(tmp_path / "marks.csv")} == {"yes", "no"}


def test_a_roster_of_another_system_is_refused(grades, tmp_path):
    path = table(tmp_path / "r.csv", ["Name"], ["Bob"])
    for system in ("canvas", "moodle"):
        with pytest.raises(InputError, match=rf"r\.csv: has no column that {system.capitalize()} exports"):
            roster.hand_over(system, grades, path)


@pytest.mark.parametrize("language", ["de", "zh"])
def test_a_worksheet_of_moodle_in_another_language_asks_for_english(grades, language):
    path = CASES / "moodle-worksheets" / f"{language}.csv"
    with pytest.raises(InputError, match="Moodle translates its columns: set your language there to English first"):
        roster.hand_over("moodle", grades, path)
    assert not (grades / "moodle.csv").exists()


def test_a_regrades_changes_are_listed(grades, tmp_path, capsys):
    new = tmp_path / "new" / "grades.csv"
    write_grades([result("ada_lovelace", gamma_func=9.0, mvtm_loss=5.0), result("bob", gamma_func=10.0, mvtm_loss=10.0),
                  result("cy", gamma_func=4.0, mvtm_loss=2.0), result("dan", gamma_func=1.0)], new)
    assert main(["diff", str(grades), str(new)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ada_lovelace: 14 -> 14 (mvtm_loss 6 -> 5, gamma_func 8 -> 9)",
        "cy: 0 -> 6 (mvtm_loss 0 -> 2, gamma_func 0 -> 4, error -> graded)", "only in NEW: dan",
        "2 of 3 submissions changed: 1 higher, 0 lower; mean 11.33 -> 13.33"]
    assert main(["diff", str(grades), str(grades)]) == 0
    assert capsys.readouterr().out == "0 of 3 submissions changed: 0 higher, 0 lower; mean 11.33 -> 11.33\n"


def test_a_diff_of_nothing_is_one_line(tmp_path, capsys):
    assert main(["diff", str(tmp_path / "gone.csv"), str(tmp_path)]) == 2
    assert "gone.csv: no such file." in capsys.readouterr().err
