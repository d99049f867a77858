"""Seconds of commands, as benchmarks count them."""

import subprocess
import sys

from conftest import ROOT

ORPHAN = """
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        while time.process_time() < 0.5:
            pass
    os._exit(0)
os.wait()
"""


def measured(code):
    """What a fresh process prints: `timed` waits for all its children, of which the tests' process has others."""
    done = subprocess.run([sys.executable, "-c", "import sys\nfrom benchmarks.commands import timed\n" + code],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_seconds_of_processes_that_outlive_their_parents_are_counted():
    used = measured(f"print(timed([[sys.executable, '-S', '-c', {ORPHAN!r}]])[1])")
    assert 0.5 <= float(used) < 1.5


def test_commands_run_on_the_cores_that_were_named():
    said = measured("import os\ncore = max(os.sched_getaffinity(0))\n"
                    "command = [sys.executable, '-S', '-c', 'import os; print(os.sched_getaffinity(0))']\n"
                    "print(timed([command, command], cores={core}, jobs=2)[2] == [f'{ {core} }\\n'] * 2)")
    assert said == "True"


def test_a_command_that_fails_is_named():
    said = measured("try:\n    timed([['sh', '-c', 'echo no room >&2; exit 3']])\nexcept RuntimeError as error:\n"
                    "    print(error)")
    assert said.startswith("sh -c") and "exit status 3" in said and "no room" in said
