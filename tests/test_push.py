"""Marks to Canvas by its API, against a server on this machine that keeps to the documentation.

https://developerdocs.instructure.com/services/canvas/resources/submissions: GET assignments/:id; GET submissions, page
by page with Link headers; PUT submissions/:user_id with form fields; 401 without a token, 403 where it throttles.
"""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest
from test_marks import result, table

from grader.cli import main
from grader.export import push as module
from grader.export.push import push
from grader.results.files import write_grades
from lab3.common.files import InputError

SECRET = "7~abcdefg"
FIELDS = {"submission[posted_grade]", "comment[text_comment]"}  # of the documented ones, those that the kit uses


class Server(ThreadingHTTPServer):
    """One course with one assignment; `puts` keeps what was sent: (user, fields)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}/courses/12/assignments/34"
        self.assignment = {"id": 34, "points_possible": 20.0, "grading_type": "points"}
        self.submissions = {user: {"user_id": user, "score": None, "entered_score": None, "submission_comments": []}
                            for user in (900, 901, 902)}
        self.puts, self.throttled, self.late, self.next_host = [], 0, 0.0, None


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, content, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refused(self):
        server = self.server
        if self.headers.get("Authorization") != f"Bearer {SECRET}":
            self.answer(401, {"errors": [{"message": "Invalid access token."}]})
        elif server.throttled:
            server.throttled -= 1
            self.answer(403, b"403 Forbidden (Rate Limit Exceeded)\n")
        elif not re.match(r"/api/v1/courses/12/assignments/34(/|\?|$)", self.path):
            self.answer(404, {"errors": [{"message": "The specified resource does not exist."}]})
        else:
            return False
        return True

    def do_GET(self):
        if self.refused():
            return
        url, host = urlsplit(self.path), f"http://{self.headers['Host']}"
        if url.path.endswith("/34"):
            self.answer(200, self.server.assignment)
            return
        query = parse_qs(url.query)
        assert url.path.endswith("/submissions") and query["include[]"] == ["submission_comments"]
        page, size = int(query.get("page", ["1"])[0]), min(2, int(query["per_page"][0]))  # a server may give fewer
        users = list(self.server.submissions.values())
        rest = f"{self.server.next_host or host}{url.path}?include[]=submission_comments&per_page=100&page={page + 1}"
        more = {"Link": f'<{host}{url.path}>; rel="current",<{rest}>; rel="next"'} if len(users) > page * size else {}
        self.answer(200, users[(page - 1) * size:page * size], **more)

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.refused():
            return
        user = int(re.fullmatch(r".*/submissions/(\d+)", self.path)[1])
        fields = {name: value for name, [value] in parse_qs(body, strict_parsing=True).items()}
        assert fields and fields.keys() <= FIELDS
        self.server.puts.append((user, fields))
        one = self.server.submissions[user]
        if "submission[posted_grade]" in fields:
            one["entered_score"] = float(fields["submission[posted_grade]"])
            one["score"] = one["entered_score"] - self.server.late
        if "comment[text_comment]" in fields:
            one["submission_comments"].append({"id": 1, "comment": fields["comment[text_comment]"]})
        self.answer(200, one)


@pytest.fixture
def canvas(monkeypatch):
    server = Server()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("CANVAS_TOKEN", SECRET)
    monkeypatch.setattr(module, "WAITS", (0.01, 0.01))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def handed(tmp_path):
    """(grades, roster): three students, one of whom has a comment and one no submission in the grades."""
    out = tmp_path / "grades"
    write_grades([result("linwei_900_canvas", gamma_func=8.0, mvtm_loss=6.5),
                  result("zoe_901_canvas", gamma_func=10.0, mvtm_loss=10.0)], out / "grades.csv")
    table(out / "manual.csv", ["submission", "exercise", "points", "comment"],
          ["linwei_900_canvas", "", "-1", "Über & über: 50 % less"])
    roster = table(tmp_path / "gradebook.csv", ["Student", "ID", "Section"], ["    Points Possible", "", ""],
                   ["Lin, Wei", "900", "A"], ["O'Neill, Zoë", "901", "A"], ["Nobody, Anna", "902", "A"])
    return out, roster


def test_nothing_is_sent_unless_asked_for_and_nothing_twice(canvas, handed, capsys):
    out, roster = handed
    arguments = ["push", canvas.address, "--grades", str(out), "--roster", str(roster)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "Lin, Wei: none -> 13.5; comment: Über" in said and "nothing is sent yet" in said and not canvas.puts
    assert not (out / "handed_back.json").exists()
    canvas.throttled = 2
    assert main([*arguments, "--send"]) == 0
    assert canvas.puts == [
        (900, {"submission[posted_grade]": "13.5", "comment[text_comment]": "Über & über: 50 % less"}),
        (901, {"submission[posted_grade]": "20"})]
    assert (out / "handed_back.json").exists()
    capsys.readouterr()
    assert main([*arguments, "--send", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["changes"] == [] and len(canvas.puts) == 2 and SECRET not in told.out + told.err
    table(out / "manual.csv", ["submission", "exercise", "points", "comment"], ["zoe_901_canvas", "", "", "neat"])
    assert [str(one) for one in push(canvas.address, out, roster, send=True, say=str).changes] == [
        "Lin, Wei: 13.5 -> 14.5", "O'Neill, Zoë: comment: neat"]


def test_what_canvas_makes_of_a_mark_is_looked_at(canvas, handed):
    canvas.late = 2.0
    del canvas.submissions[901]
    done = push(canvas.address, *handed, send=True, say=str)
    assert done.remarks[0].startswith("no submission in Canvas: O'Neill, Zoë")
    assert "13.5 was sent, Canvas counts 11.5. Does a late policy" in done.remarks[1]
    assert not push(canvas.address, *handed, say=str).changes, "what was entered is not sent again"


@pytest.mark.parametrize(("change", "said"), [
    ({"points_possible": 100.0}, "has 100.0 points possible, the grades 20. Set the assignment's points"),
    ({"grading_type": "pass_fail"}, "Set it in Canvas to be graded in points")])
def test_another_assignment_is_refused(canvas, handed, change, said):
    canvas.assignment |= change
    with pytest.raises(InputError, match=said):
        push(canvas.address, *handed, send=True)
    assert not canvas.puts


@pytest.mark.parametrize(("token", "path", "said"), [
    ("", "", "CANVAS_TOKEN is not set"), ("wrong", "", "the token is not accepted"),
    (SECRET, "5", "no such course, assignment"), (SECRET, "/edit", "copy its address")])
def test_refusals_are_one_line_without_the_token(canvas, handed, monkeypatch, capsys, token, path, said):
    monkeypatch.setenv("CANVAS_TOKEN", token)
    assert main(["push", canvas.address + path, "--grades", str(handed[0]), "--roster", str(handed[1]), "--send"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not (token and token in error) and not canvas.puts


def test_the_token_goes_nowhere_else(canvas, handed, monkeypatch):
    with pytest.raises(InputError, match="would send the token unencrypted. Use https"):
        push("http://canvas.example.edu/courses/12/assignments/34", *handed)
    canvas.next_host = "http://127.0.0.1:9"
    with pytest.raises(InputError, match="its next page is on another host"):
        push(canvas.address, *handed)
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.answer(302, {}, Location="http://127.0.0.1:9/"))
    with pytest.raises(InputError, match="answers with status 302"):
        push(canvas.address, *handed)


def test_a_canvas_that_does_not_answer_is_one_error(canvas, handed, monkeypatch):
    canvas.throttled = 99
    with pytest.raises(InputError, match="Canvas is too busy"):
        push(canvas.address, *handed)
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.answer(200, b"<html>sign in</html>"))
    with pytest.raises(InputError, match="does not answer as Canvas does"):
        push(canvas.address, *handed)
    with pytest.raises(InputError, match="does not answer as Canvas does"):
        push("http://127.0.0.1:9/courses/12/assignments/34", *handed)
