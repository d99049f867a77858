"""A class read side by side, a process a core: what breaks one reading, or takes too long, costs one submission.

In: submissions by name, and a function that reads one. Out: what it gives for each. Nothing of a submission is run.
"""

import gc
import multiprocessing
import os
import sys
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor

from lab3.common.progress import progress_bar
from lab3.exercises.examine import time_limit

LONGEST = 60  # seconds for one submission
BROKEN = "Reading it breaks down: look at it by hand."
SLOW = f"Reading it takes more than {LONGEST} seconds: look at it by hand."


def read_all(found, read):
    """Read submissions.

    Args:
        found: a dict, name -> paths, as `find_submissions` gives it.
        read: a function of a module, called as `read(paths, name)`.

    Returns:
        A dict, name -> what `read` gives, or a text that says why there is nothing, by name.
    """
    done = {}
    with progress_bar(total=len(found), desc="reading", unit="submission") as bar:
        for name, read_one in _read_side_by_side(found, read):
            done[name] = read_one
            bar.update()
        for name, paths in found.items():
            if name not in done:  # lost with a process that died: maybe with its own, so each is read alone now
                done |= dict(_read_side_by_side({name: paths}, read))
                bar.update()
    return {name: done.get(name, BROKEN) for name in sorted(found)}


def _read_side_by_side(found, read):
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    # frozen: that garbage collection goes through all that the imports made, again and again, takes a third of the time
    pool = ProcessPoolExecutor(min(os.cpu_count() or 1, max(1, len(found))), context, initializer=gc.freeze)
    try:
        waiting = {name: pool.submit(_read, read, paths, name) for name, paths in found.items()}
        for name, future in waiting.items():
            yield name, future.result()
    except BrokenExecutor:
        pass
    finally:
        pool.shutdown(cancel_futures=True)


def _read(read, paths, name):
    try:
        with time_limit(LONGEST):
            return read(paths, name)
    except TimeoutError:
        return SLOW
