"""The notebooks in JupyterLab: copied into a folder where the package is installed, in place in the project's folder.

In: a folder. Out: the notebooks there, with `work/` beside them, and a running JupyterLab.
"""

import os
from pathlib import Path

from lab3.common.files import InputError, SaveError, atomic_path
from lab3.common.paths import INSTALLED, ROOT, work_folder

FIRST = "00_start_here.ipynb"


def unpack(folder):
    """Copy the starters into a folder. A notebook that is there already stays as it is.

    Returns:
        How many were copied.

    Raises:
        SaveError: the folder cannot be written.
    """
    missing = [path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if not (folder / path.name).exists()]
    for path in missing:
        with atomic_path(folder / path.name) as temporary:
            temporary.write_bytes(path.read_bytes())
    return len(missing)


def prepare(folder=None):
    """Make the folder that JupyterLab opens, with notebooks in it, and the folder of answers.

    Args:
        folder: where notebooks go, with `work/` beside them; None: the project's own `notebooks/`, or the current
            folder where the package is installed.

    Returns:
        (folder, work): the folder with the notebooks and the one for answers. `LAB3_WORK`, which kernels inherit, names
        the latter.

    Raises:
        SaveError: one of them cannot be written.
    """
    if folder is None and not INSTALLED:
        folder, work = ROOT / "notebooks", work_folder()
    else:
        folder = Path(folder or ".").resolve()
        work = work_folder(folder / "work")
        copied = unpack(folder)
        print(f"{folder}: {copied} notebooks copied. Your answers go to {work}." if copied else
              f"{folder}: your notebooks stay as they are. Your answers go to {work}.")
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(f"{work}: {error.strerror}. Name another folder: lab3 lab DIR") from None
    os.environ["LAB3_WORK"] = str(work)
    return folder, work


def serve(folder=None, browser=True, options=()):
    """Run JupyterLab on the notebooks until it is stopped; `folder` as `prepare` takes it.

    Args:
        browser: open it in the browser.
        options: further options of JupyterLab, such as `--ServerApp.port=8890`.

    Raises:
        InputError: JupyterLab is not installed.
        SaveError: a folder cannot be written.
    """
    try:
        from jupyterlab.labapp import LabApp
    except ImportError:
        raise InputError('JupyterLab is not installed. Install it: pip install "maskgit-lab[lab]"') from None
    folder, _ = prepare(folder)
    LabApp.launch_instance([f"--ServerApp.root_dir={folder}", f"--LabApp.default_url=/lab/tree/{FIRST}",
                            *([] if browser else ["--no-browser"]), *options])
