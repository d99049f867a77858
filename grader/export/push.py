"""Marks and comments to Canvas, by its documented API: what would change, and, with --send, the change.

In: the marks of a class, Canvas's gradebook, the address of an assignment, a token from the environment. Out: a line
for each student whose mark or comment differs.
https://developerdocs.instructure.com/services/canvas/resources/submissions
"""

import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

from grader.results.files import number, short
from grader.results.roster import points_possible, read_class
from lab3.common.files import InputError

TOKEN = "CANVAS_TOKEN"  # the environment variable; a token is never an argument, never printed, never kept
ASSIGNMENT = re.compile(r"(https?://[^/]+)/courses/(\d+)/assignments/(\d+)/?")
LOCAL = ("localhost", "127.0.0.1")
SECONDS, WAITS = 60, (5, 20, 60)  # for an answer; before a request that was throttled is sent again


@dataclass(frozen=True)
class Change:
    """What a student's submission gets: `mark` and `comment` are None where Canvas has them already."""

    student: str
    user: str
    before: float | None
    mark: float | None
    comment: str | None

    def __str__(self):
        told = [] if self.comment is None else [f"comment: {short(self.comment, 80)}"]
        if self.mark is not None:
            told.insert(0, f"{'none' if self.before is None else number(self.before)} -> {number(self.mark)}")
        return f"{short(self.student, 80)}: {'; '.join(told)}"


@dataclass(frozen=True)
class Pushed:
    """The changes, whether they were sent, and what stays to be done by hand, in lines."""

    changes: tuple
    sent: bool
    remarks: tuple


class Canvas:
    """One assignment of a Canvas.

    Args:
        address: that of the assignment's page, https://HOST/courses/N/assignments/N.
        token: an access token of somebody who may grade the course.

    Raises:
        InputError: the address is another one, would send the token unencrypted, or there is no token; of each method:
            Canvas does not answer, or refuses.
    """

    def __init__(self, address, token):
        found = ASSIGNMENT.fullmatch(address)
        if not found:
            raise InputError(f"{address}: is not the address of an assignment in Canvas. Open the assignment and copy "
                             "its address: https://HOST/courses/N/assignments/N.")
        if found[1].startswith("http:") and urllib.parse.urlsplit(address).hostname not in LOCAL:
            raise InputError(f"{address}: would send the token unencrypted. Use https.")
        if not token:
            raise InputError(f"{TOKEN} is not set. Make a token in Canvas (Account, Settings, New Access Token) and "
                             "put it into this environment variable.")
        self.host, self.token = found[1], token
        self.path = f"/api/v1/courses/{found[2]}/assignments/{found[3]}"
        self.opener = urllib.request.build_opener(NoRedirect)

    def assignment(self):
        """The Assignment object."""
        return self._send("GET", self.path)[0]

    def submissions(self):
        """The Submission object of each student, with its comments: a dict, user id as text -> object."""
        found, path = {}, f"{self.path}/submissions?include[]=submission_comments&per_page=100"
        while path:
            page, path = self._send("GET", path)
            found |= {str(one["user_id"]): one for one in page}
        return found

    def grade(self, user, mark=None, comment=None):
        """Grade or comment on a student's submission; returns the Submission object."""
        fields = {"submission[posted_grade]": None if mark is None else number(mark), "comment[text_comment]": comment}
        fields = {name: value for name, value in fields.items() if value is not None}
        return self._send("PUT", f"{self.path}/submissions/{user}", fields)[0]

    def _send(self, method, path, fields=None):
        """(the answer's JSON, the path of the next page or None)."""
        request = urllib.request.Request(
            self.host + path, method=method, headers={"Authorization": f"Bearer {self.token}"},
            data=urllib.parse.urlencode(fields).encode() if fields else None)
        for wait in (*WAITS, None):
            try:
                with self.opener.open(request, timeout=SECONDS) as answer:
                    return json.load(answer), self._next(answer.headers.get("Link", ""))
            except urllib.error.HTTPError as error:
                with error:
                    throttled = error.code == 429 or error.code == 403 and b"Rate Limit Exceeded" in error.read(10_000)
                if not throttled or wait is None:
                    code = 429 if throttled else error.code
                    raise InputError(f"{self.host}{path.partition('?')[0]}: {self._reason(code)}") from None
                time.sleep(wait)
            except (OSError, ValueError, urllib.error.URLError) as error:
                raise InputError(f"{self.host}: does not answer as Canvas does ({getattr(error, 'reason', error)}). "
                                 "Check the address and the network.".replace(self.token, "…")) from None

    def _next(self, links):
        """The path of the next page. The token goes to no other host, whatever an answer says."""
        found = re.search(r'<([^>]+)>\s*;\s*rel="next"', links)
        if found and not found[1].startswith(f"{self.host}/"):
            raise InputError(f"{self.host}: its next page is on another host. Nothing is sent there.")
        return found and found[1].removeprefix(self.host)

    @staticmethod
    def _reason(code):
        return {
            401: f"the token is not accepted. Check {TOKEN}: it may have expired.",
            403: "the token's owner may not grade this course.",
            404: "no such course, assignment or student for the token's owner. Check the address.",
            429: "Canvas is too busy. Try again later: what was sent is not sent twice.",
        }.get(code, f"Canvas answers with status {code}. Try again later: what was sent is not sent twice.")


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: urllib would hand the token on to wherever it leads."""

    def redirect_request(self, *_):
        return None


def push(address, grades, roster, send=False, choose=None, rubric=None, say=print):
    """Compare the marks of a class with those in Canvas, and send what differs where that is asked for.

    A mark or a comment that Canvas has already is not sent again, so a push that was cut off is repeated safely.

    Args:
        address: that of the assignment's page.
        grades: `grades.csv` or its folder.
        roster: the gradebook that Canvas exports: its column ID has the numbers of the students.
        send: False: only say what would change.
        choose, rubric: as `read_class` takes them.
        say: called with a line for each change, once it is made.

    Returns:
        A `Pushed`.

    Raises:
        InputError: a file cannot be used; the assignment's points are others; Canvas does not answer, or refuses.
    """
    canvas = Canvas(address, os.environ.get(TOKEN, "").strip())
    found = read_class("canvas", grades, roster, choose, rubric)
    if "ID" not in found.header:
        raise InputError(f"{roster}: has no column ID. Export the gradebook from Canvas again, and keep its columns.")
    assignment, there = canvas.assignment(), canvas.submissions()
    most = {mark.most for mark in found.counting.values()}
    if most - {assignment.get("points_possible")}:
        raise InputError(f"{address}: has {assignment.get('points_possible')} points possible, the grades "
                         f"{', '.join(map(number, sorted(most)))}. Set the assignment's points in Canvas.")
    if assignment.get("grading_type") in ("pass_fail", "not_graded"):
        raise InputError(f"{address}: its grades are {assignment['grading_type']}. Set it in Canvas to be graded in "
                         "points.")
    changes, remarks = [], list(found.remarks)
    for name, mark in found.counting.items():
        row = found.owners.get(name)
        if row is None or mark.final is None or points_possible(row):
            continue
        if row["ID"] not in there:
            remarks.append(f"no submission in Canvas: {short(row[found.known[0]], 80)} ({short(name, 80)})")
            continue
        one = there[row["ID"]]
        told = [comment.get("comment", "").strip() for comment in one.get("submission_comments") or ()]
        before = one.get("entered_score", one.get("score"))
        changes.append(Change(row[found.known[0]], row["ID"], before, None if before == mark.final else mark.final,
                              mark.comment if mark.comment and mark.comment.strip() not in told else None))
    changes = [one for one in changes if one.mark is not None or one.comment is not None]
    for one in changes:
        if send:
            score = canvas.grade(one.user, one.mark, one.comment).get("score")
            if one.mark is not None and score != one.mark:
                remarks.append(f"{short(one.student, 80)}: {number(one.mark)} was sent, Canvas counts {score}. Does a "
                               "late policy of the course take points off too?")
        say(str(one))
    if send:
        found.hand_back()
    return Pushed(tuple(changes), send, tuple(remarks))
