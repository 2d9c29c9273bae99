# syntax=docker/dockerfile:1
# Any image with Python 3.11 or newer, its venv module, CA certificates and time zones serves as a base.
ARG BASE=python:3.12-slim-bookworm
# `sha256:…`, which a release fills in: the base then is what was tested, whatever the tag says by now.
ARG BASE_DIGEST=""

# --- what is installed, and pip, which stays behind ------------------------------------------------------------------
FROM ${BASE}${BASE_DIGEST:+@${BASE_DIGEST}} AS build
# requirements-dask.lock: the same, and what workers on other machines need (docs/pool.md).
ARG LOCK=requirements.lock
WORKDIR /build
COPY requirements.lock requirements-dask.lock requirements-build.lock pyproject.toml setup.py README.md ./
COPY exporter exporter
COPY dashboards dashboards
COPY docs/runbooks docs/runbooks
COPY examples examples
# Everything that we depend on comes as a wheel of a known hash: nothing is compiled, and nothing else is taken.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv tools \
    && python3 -m venv --without-pip /opt/triton-canary \
    && tools/bin/pip install --require-hashes --only-binary :all: -r requirements-build.lock \
    && tools/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir wheels . \
    && tools/bin/pip --python /opt/triton-canary/bin/python install --require-hashes --only-binary :all: -r ${LOCK} \
    && tools/bin/pip --python /opt/triton-canary/bin/python install --no-deps --no-index wheels/*.whl \
    && /opt/triton-canary/bin/triton-canary --version \
    && install --directory --owner 10001 --group 10001 /data

# --- the image -------------------------------------------------------------------------------------------------------
FROM ${BASE}${BASE_DIGEST:+@${BASE_DIGEST}}
ARG BASE
ARG BASE_DIGEST
ARG VERSION=0.2.0
ARG REVISION=""
ARG CREATED=""
LABEL org.opencontainers.image.title="triton-canary" \
      org.opencontainers.image.description="Continuous, safe, client-side load measurement of NVIDIA Triton Inference Server for Prometheus" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"

COPY --from=build /opt/triton-canary /opt/triton-canary
# Empty, and the user's own: a volume that is made here begins as it is.
COPY --from=build --chown=10001:10001 /data /var/lib/triton-canary

# The pages must be reachable from outside of the container; the file can't say otherwise, the command's environment can.
ENV PATH=/opt/triton-canary/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TRITON_CANARY_WEB__LISTEN=:9787

# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/triton-canary
VOLUME /var/lib/triton-canary
EXPOSE 9787
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["triton-canary", "health"]
ENTRYPOINT ["triton-canary"]
CMD ["serve", "--config", "/etc/triton-canary/canary.yaml"]
