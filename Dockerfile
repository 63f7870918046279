# Two images: `--target swamp` (orchestrator, worker, command line) and `--target rq-dashboard`.
# The base may be any Debian with python3 >= 3.11 and its venv module: --build-arg BASE_IMAGE=...
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS base
RUN groupadd --gid 10001 swamp \
 && useradd --uid 10001 --gid swamp --create-home swamp \
 && install --directory --owner swamp --group swamp /repository /cache
ENV PYTHONUNBUFFERED=1


FROM base AS build
RUN python3 -m venv /opt/swamp
WORKDIR /source
COPY . .
RUN /opt/swamp/bin/python -m pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt .


FROM base AS build-rq-dashboard
ARG RQ_DASHBOARD_VERSION=0.9.0
RUN python3 -m venv /opt/rq-dashboard
WORKDIR /source
COPY constraints.txt .
# six: rq-dashboard imports it without asking for it.
RUN /opt/rq-dashboard/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
    --constraint constraints.txt "rq-dashboard==${RQ_DASHBOARD_VERSION}" six==1.17.0


FROM base AS rq-dashboard
COPY --from=build-rq-dashboard /opt/rq-dashboard /opt/rq-dashboard
USER 10001:10001
EXPOSE 9181
ENTRYPOINT ["/opt/rq-dashboard/bin/rq-dashboard"]


FROM base AS swamp
COPY --from=build /opt/swamp /opt/swamp
ENV PATH=/opt/swamp/bin:$PATH
USER 10001:10001
# A repository is mounted at /repository; a worker keeps its identity and its unsent results in /cache.
WORKDIR /repository
VOLUME ["/repository", "/cache"]
EXPOSE 9090
ENTRYPOINT ["swamp"]
CMD ["--help"]
