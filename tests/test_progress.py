"""Progress bars where processes fork and are killed."""

import subprocess
import sys

from conftest import ROOT

KILLED = """
import os, signal
from lab3.common.progress import progress_bar
with progress_bar(total=2) as bar:
    if os.fork() == 0:
        bar.get_lock().acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    os.wait()
    bar.update()
"""


def test_a_process_that_is_killed_while_it_draws_stops_no_other():
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_bar_starts_no_thread():
    """Threads and forks do not go together."""
    code = "import threading\nfrom lab3.common.progress import progress_bar\nprogress_bar(total=1).update()\n" \
           "print(threading.active_count())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "1", done.stderr
