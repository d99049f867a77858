"""Reads and checks a folder of answers, one after the other, as a notebook or the command line shows them.

In: a folder `work/`. Out: for each exercise its namespace and its `Report`.
"""

import ctypes
import signal
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from lab3.common.files import InputError, content_key
from lab3.exercises.answers import defined, link, read_answer
from lab3.exercises.checks import Report, check
from lab3.exercises.table import ALL_EXERCISES, EXERCISES, TRAINING

CHECK_LIMIT = 20  # seconds for one answer to be read and checked; a right one needs about one


def examine(work, names=tuple(EXERCISES)):
    """Run and check the answers in a folder, one after the other; each finds those before it that are right.

    Args:
        work: holds `NAME.py` for each answer.
        names: the exercises wanted.

    Yields:
        For each its name, its namespace (None where it does not run) and its `Report`. Answers that passed are to be
        put together by `exercises.link`.
    """
    found, missing = {}, {}
    for name in names:
        if not (Path(work) / f"{name}.py").is_file():
            missing[EXERCISES[name].defines] = not_there(name)
            yield name, None, Report(name, False, False, f"[TODO] {name}: not there yet")
            continue
        namespace = None
        import_optimizers(name)
        try:
            with time_limit(CHECK_LIMIT):
                namespace = read_answer(work, name, defined(found))
                link(found | {name: namespace})
                namespace.update(missing)
                report = check(name, namespace)
        except (InputError, TimeoutError) as error:
            report = Report(name, False, True, str(error))
        if report.passed:
            found[name] = namespace
        else:
            missing[EXERCISES[name].defines] = not_there(name)
        yield name, namespace, report


def training_key(work):
    """A key that changes with the answers that training uses."""
    return content_key([(Path(work) / f"{name}.py").read_bytes() for name in TRAINING
                        if (Path(work) / f"{name}.py").is_file()])


def not_there(name):
    exercise = ALL_EXERCISES[name]

    def not_there(*_, **__):
        raise plain(NotImplementedError(
            f"{exercise.defines} is the exercise {name} of notebook {exercise.notebook}: write it there first."))
    return not_there


def plain(error):
    """The error, of which a notebook shows the message alone."""
    error._render_traceback_ = str(error).splitlines
    return error


def import_optimizers(name):
    """Import what the first optimizer needs, which takes seconds, before an answer that makes one is timed."""
    if ALL_EXERCISES[name].notebook == "03":
        torch.optim.AdamW([torch.zeros(1)])


@contextmanager
def time_limit(seconds):
    """Raise `TimeoutError` where the block takes longer, again every second.

    Without Unix's alarm, on Windows or in another thread, it is raised between two of Python's instructions: not
    before a single long call has returned.
    """
    said = f"it takes more than {seconds} s. Does a loop never end?"
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        with _watched(seconds, said):
            yield
        return

    def stop(*_):
        raise TimeoutError(said)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _watched(seconds, said):
    """Let another thread raise `TimeoutError(said)` in this one, every second from `seconds` on."""
    class TooLong(TimeoutError):  # Python makes the error itself, from a class
        def __init__(self):
            super().__init__(said)

    mine, ended = threading.get_ident(), threading.Event()

    def watch():
        wait = seconds
        while not ended.wait(wait):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(mine), ctypes.py_object(TooLong))
            wait = 1

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done = False
        while not done:  # one that has not arrived yet arrives here: taking it back leaves Python's alert on
            with suppress(TooLong):
                ended.set()
                watcher.join()
                time.sleep(0)
                done = True
