"""Times ways of doing the same thing, turn by turn, so that a machine's moods fall on all of them alike.

In: functions. Out: seconds, ratios, a table in Markdown. With one thread and no GPU the seconds are those that the
process spent on a processor, so that others at work on the machine do not count; else they are a clock's.
"""

import os
import statistics
import sys
import time

import torch

from benchmarks.commands import timed
from lab3.common.machine import machine_kind
from lab3.common.paths import ROOT


def finished():
    """Wait for what a GPU still has to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def clock():
    """The clock that suits this machine, a function: its differences are seconds."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time if alone else time.perf_counter


def seconds_of(way):
    """How long one call takes."""
    now = clock()
    finished()
    began = now()
    way()
    finished()
    return now() - began


def seconds_of_process(code, *arguments, **environment):
    """How long a fresh Python takes for some code: its seconds, by the same clock, and what it printed."""
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    seconds, used, [said] = timed([command], cwd=ROOT, env=os.environ | environment)
    return used if clock() is time.process_time else seconds, said


def alternate(ways, repeats, warm_up=True):
    """Time every way `repeats` times, one after the other in each round.

    Args:
        ways: a dict, name -> a function without arguments.
        repeats: how many rounds count.
        warm_up: run all once before; that round does not count.

    Returns:
        A dict, name -> a list of seconds, one a round.
    """
    for way in ways.values() if warm_up else ():
        way()
    times = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            times[name].append(seconds_of(way))
    return times


def times_as_fast(times, slow, fast):
    """How many times as fast one way is as another: the median over rounds."""
    return statistics.median(a / b for a, b in zip(times[slow], times[fast], strict=True))


def machine():
    """The machine, the threads that this process uses and whose seconds are counted, in words."""
    threads = torch.get_num_threads()
    kind = "processor time" if clock() is time.process_time else "wall time"
    return (f"{machine_kind()}, {threads} {'thread' if threads == 1 else 'threads'}, {kind}, "
            f"PyTorch {torch.__version__}")


def table(header, rows):
    """Rows of text as a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
