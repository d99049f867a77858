"""Set up the lab on any system with only Python: run `python setup_lab.py`, then the command that it prints.

In: this folder, pip. Out: a virtual environment in `.venv`. `--gpu` takes PyTorch with CUDA on Linux, where the
much smaller build for CPUs is the default.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# What a shell sets for another Python or another way to install: pip or Python would stop at it.
FOREIGN = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PYTHONHOME", "PYTHONPATH")


def refusal(python=None, system=None, machine=None, macos=None):
    """Why the lab cannot be installed here, in a sentence with the remedy; None where it can.

    Args:
        python, system, machine, macos: what Python and the module `platform` say; None: of this machine.
    """
    python, system = python or sys.version_info[:2], system or platform.system()
    machine, macos = machine or platform.machine(), macos or platform.mac_ver()[0]
    if python < (3, 11):
        return (f"lab3 needs Python 3.11 or later, and this is {python[0]}.{python[1]}. Install a newer one from "
                "python.org, and start this with it: python3.12 setup_lab.py, or make PYTHON=python3.12")
    elsewhere = "Use Colab (the first cell of each notebook says how), or another machine."
    if system == "Darwin" and machine == "x86_64":
        return ("PyTorch has no builds for Macs with Intel processors any more. On a Mac with Apple's own processor, "
                f"install Python for arm64. {elsewhere}")
    if system == "Darwin" and int(macos.split(".")[0]) < 14:
        return f"PyTorch needs macOS 14 or later, and this is macOS {macos}. Update macOS. {elsewhere}"
    return None


def surroundings(environment, gpu, system=None, settings=""):
    """The environment for pip: nothing foreign, and on Linux the index of PyTorch's builds for CPUs.

    Where the environment or pip's `settings` (what `pip config list` prints) name an index, none is added.
    """
    kept = {name: value for name, value in environment.items() if name not in FOREIGN}
    chosen = {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"} & kept.keys() or "index-url=" in settings
    if (system or platform.system()) == "Linux" and not gpu and not chosen:
        kept["PIP_EXTRA_INDEX_URL"] = CPU_INDEX
    return kept


def main(arguments=None):
    """Set the lab up; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gpu", action="store_true", help="on Linux: PyTorch with CUDA, a far larger download")
    parser.add_argument("--venv", type=Path, default=HERE / ".venv", help="default: .venv")
    parser.add_argument("package", nargs="*", default=[".[lab,report]"],
                        help="what pip installs, editable; default: .[lab,report]")
    options = parser.parse_args(arguments)
    if why := refusal():
        print(f"setup_lab: {why}", file=sys.stderr)
        return 1
    settings = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    environment = surroundings(os.environ, options.gpu, settings=settings)
    python = options.venv.absolute() / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    print("Setting the lab up in .venv. pip downloads PyTorch and JupyterLab, which takes some minutes.", flush=True)
    if shutil.which("nvidia-smi") and environment.get("PIP_EXTRA_INDEX_URL") == CPU_INDEX:
        print("There is an NVIDIA GPU here: to use it, add --gpu (with make: GPU=1).", flush=True)
    packages = [part for package in options.package for part in ("-e", package)]
    for command in ([sys.executable, "-m", "venv", options.venv],
                    [python, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "on",
                     "--no-compile", "-c", "constraints.txt", *packages]):
        status = subprocess.run(list(map(str, command)), cwd=HERE, env=environment).returncode
        if status:
            print("setup_lab: the command above failed. Run it again when you have changed what it says.",
                  file=sys.stderr)
            return status
    print(f'Ready. Start the lab with "{python}" -m lab3 lab')
    return 0


if __name__ == "__main__":
    sys.exit(main())
