# The gateway and the `limelight` command: no torch, no ray. `make images` builds it.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS dependencies
RUN python3 -m venv /opt/limelight
WORKDIR /src
# The secret is a CA bundle for package indexes behind a proxy; `docker/wheels` may hold wheels that
# no index has.
COPY docker/gateway.txt docker/
# hadolint ignore=DL3042  # the cache is a mount, and no part of the image
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_ca,target=/run/pip_ca.pem \
    --mount=type=bind,source=docker/wheels,target=/wheels \
    if [ -s /run/pip_ca.pem ]; then export PIP_CERT=/run/pip_ca.pem; fi \
    && /opt/limelight/bin/pip install --disable-pip-version-check --no-compile \
         --find-links /wheels --requirement docker/gateway.txt

# Our own code, in a folder and so in a layer of its own: a change of it rebuilds only that.
FROM dependencies AS build
# The wheels' build backend is pinned by what the tests ran with.
COPY docker/constraints.txt docker/
COPY pyproject.toml README.md LICENSE ./
COPY protos/python protos/python
COPY services services
# The checkpoints stay out: this image could not run them.
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_ca,target=/run/pip_ca.pem \
    if [ -s /run/pip_ca.pem ]; then export PIP_CERT=/run/pip_ca.pem; fi \
    && export PIP_CONSTRAINT=/src/docker/constraints.txt \
    && rm -rf services/planner/checkpoints services/segmenter/checkpoints \
    && /opt/limelight/bin/pip install --disable-pip-version-check --no-compile --no-deps \
         --target /opt/app ./protos/python .

# Compiled here: a root that is read-only could not keep what each start would compile anew.
# Packages hold a few files that are templates and no Python, hence `|| true`.
FROM dependencies AS trimmed
RUN /opt/limelight/bin/pip uninstall --quiet --yes pip setuptools \
    && { /opt/limelight/bin/python -m compileall -qq -j 0 --invalidation-mode unchecked-hash \
           /opt/limelight/lib || true; }

# The bill lists what the image holds, and so is written after pip has gone.
FROM trimmed AS bill
COPY docker/sbom.py docker/
COPY --from=build /opt/app /opt/app
RUN PYTHONPATH=/opt/app /opt/limelight/bin/python docker/sbom.py > /opt/app/sbom.cdx.json \
    && /opt/limelight/bin/python -m compileall -qq --invalidation-mode unchecked-hash /opt/app

FROM ${PYTHON_IMAGE}
RUN useradd --uid 1000 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin limelight
COPY --from=trimmed /opt/limelight /opt/limelight
COPY --from=bill /opt/app /opt/app
ENV PATH=/opt/app/bin:/opt/limelight/bin:$PATH \
    PYTHONPATH=/opt/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LIMELIGHT_GATEWAY_LISTEN=0.0.0.0:50551 \
    LIMELIGHT_GATEWAY_METRICS_LISTEN=0.0.0.0:9464
USER 1000:1000
EXPOSE 50551 9464
CMD ["python", "-m", "services.gateway"]
# Last, since a RUN after an ARG runs again whenever its value changes: each commit would copy all
# layers anew.
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="limelight-gateway" \
      org.opencontainers.image.description="Limelight's public gRPC server and its command line" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
