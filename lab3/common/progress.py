"""Progress bars: tqdm's, as text that a terminal, a notebook and a notebook without a browser all show.

In: what is iterated over, or a total. Out: a tqdm bar.
"""

import sys
import threading

from tqdm import tqdm

# tqdm's own lock is shared with forked processes: one that is killed while it holds the lock stops all others. And no
# thread of tqdm's may run where processes fork.
tqdm.set_lock(threading.RLock())
tqdm.monitor_interval = 0


def in_notebook():
    """Whether this process is a Jupyter kernel."""
    if "ipykernel" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def progress_bar(iterable=None, **options):
    """A tqdm bar. In a notebook it goes to standard output: Jupyter paints standard error red, like a failure."""
    if in_notebook():
        options = {"file": sys.stdout, "ncols": 100, "mininterval": 0.5} | options
    return tqdm(iterable, **options)
