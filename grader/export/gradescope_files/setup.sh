#!/usr/bin/env bash
# Gradescope runs this once, as root, when it builds the image: the packages, in an environment of their own.
# pip reads PIP_INDEX_URL and PIP_EXTRA_INDEX_URL. PyTorch's index of builds for CPUs alone makes a far smaller image:
# export PIP_EXTRA_INDEX_URL=...
set -euo pipefail
cd /autograder/source
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends python3 python3-venv bubblewrap util-linux
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "lab3 needs Python 3.11 or later: choose a newer base image, such as Ubuntu 24.04"; exit 1; }
"$python" -m venv /autograder/venv
/autograder/venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements.txt
