# The lab in a container: JupyterLab on the notebooks, for a user who is not root, and the grader (docs/INSTRUCTOR.md).
#
#   docker build -t lab3 .                                  PyTorch for CPUs
#   docker build -t lab3 --build-arg DEVICE=cuda .          PyTorch with CUDA: run it with --gpus all
#   docker run --name lab3 -p 127.0.0.1:8888:8888 lab3      its log gives the address to open
#
# The folder of an unpacked release is a context, too: docker build -t lab3 -f Dockerfile lab3-VERSION
#
# The grader runs as root (--user root) and makes each kernel another user; answers and probes are closed to others.
ARG DEVICE=cpu

FROM python:3.11-slim-bookworm AS cpu
# PyTorch's builds for CPUs alone: without CUDA's libraries, which are larger than all else together
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu

FROM python:3.11-slim-bookworm AS cuda
# PyPI's build brings CUDA's libraries along; the driver is the host's
ENV GPU=1 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM ${DEVICE} AS tools
# hadolint ignore=DL3008
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends bubblewrap make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 lab \
    && install -d -o lab /lab3
USER 1000

FROM tools
WORKDIR /lab3
COPY --chown=lab . .
# A release has no grader: pip says so of the extra and goes on
RUN PIP_NO_CACHE_DIR=1 make install PACKAGE="'.[lab,report,grader]' $(find grader -name pyproject.toml -printf './%h')" \
    && for folder in grader solutions tests; do if [ -d "$folder" ]; then chmod -R o-rwx "$folder"; fi; done
EXPOSE 8888 8866
CMD ["make", "lab", "JUPYTERLAB=--ServerApp.ip=0.0.0.0 --ServerApp.open_browser=False"]
