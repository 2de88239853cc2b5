# Planner and segmenter: both run on Ray Serve with torch and transformers, so they share an image,
# which a node then pulls once. `make images` builds the variant for CPUs.
#
#   VARIANT=cpu    with the tiny checkpoints in it, for laptops and tests
#   VARIANT=cuda   with torchvision as well, for clusters
#   TORCH_INDEX    an index that has torch's build for the variant. Unset: the package index's own,
#                  which for Linux on x86-64 is the CUDA build, and 4 GB larger than the CPU's.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS dependencies
RUN python3 -m venv /opt/limelight
WORKDIR /src
ARG VARIANT=cpu
ARG TORCH_INDEX=
# torch by itself: it changes the least. What it needs comes with the rest, from the usual index: one
# that has torch need not have our pins.
COPY docker/torch-${VARIANT}.txt docker/
# hadolint ignore=DL3042  # the cache is a mount, and no part of the image
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_ca,target=/run/pip_ca.pem \
    --mount=type=bind,source=docker/wheels,target=/wheels \
    if [ -s /run/pip_ca.pem ]; then export PIP_CERT=/run/pip_ca.pem; fi \
    && /opt/limelight/bin/pip install --disable-pip-version-check --no-compile \
         --find-links /wheels ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
         --no-deps --requirement "docker/torch-${VARIANT}.txt"
COPY docker/models.txt docker/
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_ca,target=/run/pip_ca.pem \
    --mount=type=bind,source=docker/wheels,target=/wheels \
    if [ -s /run/pip_ca.pem ]; then export PIP_CERT=/run/pip_ca.pem; fi \
    && /opt/limelight/bin/pip install --disable-pip-version-check --no-compile \
         --find-links /wheels --requirement docker/models.txt \
         --requirement "docker/torch-${VARIANT}.txt"

# Our own code, in a folder and so in a layer of its own: a change of it rebuilds only that.
FROM dependencies AS build
ARG VARIANT=cpu
COPY docker/constraints.txt docker/
COPY pyproject.toml README.md LICENSE ./
COPY protos/python protos/python
COPY services services
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_ca,target=/run/pip_ca.pem \
    if [ -s /run/pip_ca.pem ]; then export PIP_CERT=/run/pip_ca.pem; fi \
    && export PIP_CONSTRAINT=/src/docker/constraints.txt \
    && if [ "$VARIANT" = cuda ]; then \
         rm -rf services/planner/checkpoints services/segmenter/checkpoints; fi \
    && /opt/limelight/bin/pip install --disable-pip-version-check --no-compile --no-deps \
         --target /opt/app ./protos/python .

# Compiled here: a root that is read-only could not keep what each start would compile anew.
# Packages hold a few files that are templates and no Python, hence `|| true`.
FROM dependencies AS trimmed
RUN /opt/limelight/bin/pip uninstall --quiet --yes pip \
    && { /opt/limelight/bin/python -m compileall -qq -j 0 --invalidation-mode unchecked-hash \
           /opt/limelight/lib || true; }

# The bill lists what the image holds, and so is written after pip has gone.
FROM trimmed AS bill
COPY docker/sbom.py docker/
COPY --from=build /opt/app /opt/app
RUN PYTHONPATH=/opt/app /opt/limelight/bin/python docker/sbom.py > /opt/app/sbom.cdx.json \
    && /opt/limelight/bin/python -m compileall -qq --invalidation-mode unchecked-hash /opt/app

FROM ${PYTHON_IMAGE}
# KubeRay starts Ray by bash; Ray asks who its user is.
RUN useradd --uid 1000 --user-group --no-create-home --home-dir /tmp --shell /bin/bash limelight
COPY --from=trimmed /opt/limelight /opt/limelight
COPY --from=bill /opt/app /opt/app
# With a read-only root, /tmp is what can be written. Importing a model needs the inductor's cache.
ENV PATH=/opt/app/bin:/opt/limelight/bin:$PATH \
    PYTHONPATH=/opt/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    HF_HOME=/tmp/hf \
    TORCHINDUCTOR_CACHE_DIR=/tmp/inductor
USER 1000:1000
EXPOSE 6379 8000 8080 8265 9000
CMD ["ray", "start", "--head", "--block"]
# Last, since a RUN after an ARG runs again whenever its value changes: each commit would copy all
# layers anew.
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="limelight-models" \
      org.opencontainers.image.description="Limelight's planner and segmenter on Ray Serve" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
