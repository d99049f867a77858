"""A class graded by the workers of a Dask scheduler: what a worker must have, what comes back, what is tried again.

In: submissions, which every worker sees under the same paths, and a scheduler's address. Out: results on disk, each as
it comes. Dask says who grades what and when; workers run `grader.run.dask_worker`.
"""

import json
import time
import uuid
from collections import Counter, deque
from concurrent.futures import CancelledError
from dataclasses import asdict

from grader.kernels.kernel import GraderError
from grader.results.files import RUN, earlier_result
from grader.results.result import from_dict, to_dict
from grader.run.keys import grader_key
from grader.run.pool import ERROR, TRIES, broken, save
from lab3.common.files import InputError, write_json, write_text
from lab3.common.progress import progress_bar

try:
    from distributed import Client, KilledWorker, wait

    from grader.run.dask_worker import GRADER, MEMORY, SANDBOX, fingerprint, grade_submission
except ImportError as error:
    raise InputError(f"--scheduler needs Dask distributed ({error}): pip install -c constraints.txt -e '.[farm]'."
                     ) from None

OVERHEAD = 2 << 30  # bytes that grading a submission takes beside its kernel
GONE = "the scheduler is gone. What was graded is kept; with a scheduler again, the same command goes on"
GRACE = 5  # seconds in which a worker of use must come where all others are refused


def grade_there(found, out, run, columns, hidden, address, allow_no_sandbox, rubric):
    """Grade submissions on a farm. Only this process writes to the folder of results.

    Args:
        found: a dict, name -> paths.
        out: the folder of the results; earlier ones in it are kept where nothing has changed.
        run: what `RUN` holds, a dict with `seed` and `grader`.
        columns: the ids to grade.
        hidden: folders that no kernel may see.
        address: the scheduler's. TLS is set up as everywhere in Dask, in its configuration.
        allow_no_sandbox: take workers without a sandbox, too.
        rubric: a `Rubric`.

    Raises:
        InputError: there is no scheduler, no worker can be used, or one sees other files.
        GraderError: the scheduler is gone.
    """
    order = json.dumps({"seed": run["seed"], "columns": columns, "hidden": [str(one) for one in hidden],
                        "marking": [rubric.points, rubric.thresholds, asdict(rubric.limits)]})
    needs = {GRADER + grader_key(None): 1, MEMORY: rubric.limits.memory + OVERHEAD} | (
        {} if allow_no_sandbox else {SANDBOX: 1})
    pending, running, tries = deque(found), {}, Counter()
    with connected(address) as client, progress_bar(total=len(found), desc="grading", unit="submission") as bar:
        write_json(out / RUN, run)
        capacity = WorkerCapacity(client, needs, bar.write)
        while pending or running:
            free = capacity.free()
            while pending and len(running) < free:  # no more: Dask also suspects what waits at a worker that dies
                name = pending.popleft()
                future = client.submit(
                    grade_submission, order, _call(name, found[name], out), key=f"grade_submission-{uuid.uuid4()}",
                    resources=needs)
                running[future] = name
            for future in _ended(running):
                name = running.pop(future)
                tries[name] += 1
                if _take(future, name, found[name], out):
                    bar.update()
                elif tries[name] < TRIES:
                    pending.append(name)
                else:
                    save(broken(name, rubric, columns, run["seed"], "unknown", earlier_result(out / name),
                                "lost its worker on the farm again and again while it graded this submission"), out)
                    bar.update()


def connected(address):
    """A client of the scheduler. Raises `InputError` where none answers."""
    try:
        return Client(address)
    except Exception as error:  # of the address, of TLS, of the network
        reason = str(error) or type(error).__name__
        raise InputError(f"--scheduler {address}: no Dask scheduler can be reached there ({reason}). Start one with "
                         "`dask scheduler` and name the address that it prints; for tls:// name certificates in Dask's "
                         "configuration.") from None


def _call(name, paths, out):
    """What the task gets to know of one submission, its earlier result too: as on one machine, that may be enough."""
    done = earlier_result(out / name)
    return json.dumps({"name": name, "paths": list(map(str, paths)), "fingerprint": list(map(fingerprint, paths)),
                       "done": done and to_dict(done)})


def _ended(running):
    """The futures that have ended, within a second. Raises `GraderError` where the scheduler is gone."""
    if not running:
        time.sleep(1)
        return ()
    try:
        return wait(list(running), timeout=1, return_when="FIRST_COMPLETED").done
    except TimeoutError:
        return ()
    except CancelledError:
        raise GraderError(GONE) from None


def _take(future, name, paths, out):
    """Save what a task gave; says whether it gave a result."""
    if future.status != "finished":
        error = future.exception()
        if not isinstance(error, KilledWorker):
            raise GraderError(f"the farm failed ({error or type(error).__name__}). What was graded is kept; the same "
                              "command goes on") from error
        write_text(out / name / ERROR, f"{error}\n")
        return False
    answer = json.loads(future.result())
    if "unseen" in answer:
        raise InputError(f"{paths[0]}: {answer['unseen']} sees another file there, or none. Workers need the "
                         "submissions under the same paths: put them on a file system that all machines share.")
    if answer["error"] is not None:
        write_text(out / name / ERROR, answer["error"])
    else:
        (out / name / ERROR).unlink(missing_ok=True)
    result = from_dict(answer["result"])
    if result != earlier_result(out / name):
        save(result, out)
    return True


class WorkerCapacity:
    """Looks at a scheduler's workers, and says of each that cannot be used, once, why."""

    def __init__(self, client, needs, say):
        self.client, self.needs, self.say, self.refused = client, needs, say, {}
        self.opened, self.began = False, time.monotonic()
        if not self._workers():
            say("no worker is there yet: waiting")

    def _workers(self):
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        if self.client.status == "closed":
            raise GraderError(GONE)
        return workers

    def free(self):
        """How many submissions can be graded at a time.

        Raises:
            InputError: there are workers, and none has been of use.
            GraderError: the scheduler is gone.
        """
        workers, free = self._workers(), 0
        for address, about in workers.items():
            reason = unfit(about["resources"], self.needs)
            if reason is None:
                free += min(about["nthreads"], int(about["resources"][MEMORY] // self.needs[MEMORY]))
            elif address not in self.refused:
                self.refused[address] = f"worker {about['name']} on {about['host']} is refused: {reason}"
                self.say(self.refused[address])
        self.opened = self.opened or free > 0
        if not self.opened and self.refused and time.monotonic() - self.began > GRACE:
            raise InputError(f"no worker can grade. {list(self.refused.values())[-1]}")
        return free


def unfit(resources, needs):
    """Why a worker that declares these resources cannot be used, and what to do; None where it can."""
    own = next(one for one in needs if one.startswith(GRADER))
    theirs = next((one for one in resources if one.startswith(GRADER)), None)
    if theirs is None:
        return "it was not started for grading. Start it with --preload grader.run.dask_worker."
    if theirs != own:
        return (f"it has another version of lab3, its grader or PyTorch ({theirs.removeprefix(GRADER)}, not "
                f"{own.removeprefix(GRADER)}). Install the same there.")
    if SANDBOX in needs and SANDBOX not in resources:
        return ("it gives no sandbox. Install bubblewrap there and allow user namespaces, or add --allow-no-sandbox "
                "where you trust all submissions.")
    if resources[MEMORY] < needs[MEMORY]:
        return (f"it may use {resources[MEMORY] / 1e9:.1f} GB of memory, and grading a submission takes up to "
                f"{needs[MEMORY] / 1e9:.1f}. Start it with a larger --memory-limit.")
    return None
