# Three images: `--target swamp` (orchestrator, worker, command line), `--target rq-dashboard`, `--target rq-exporter`.
# The base may be any Debian with python3 >= 3.11 and its venv module: --build-arg BASE_IMAGE=...
# Not Alpine: the engine of `swamp data query` has no wheels for musl.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS base
# The directories are where volumes go: a new volume takes over owner and mode of what it covers.
RUN groupadd --gid 10001 swamp \
 && useradd --uid 10001 --gid swamp --no-create-home --home-dir /tmp swamp \
 && install --directory --owner swamp --group swamp --mode 0700 \
    /repository /cache /run/swamp/token /run/swamp/redis /run/swamp/monitor \
 && install --directory --owner swamp --group swamp --mode 0755 /run/swamp/acl
ENV PYTHONUNBUFFERED=1


# What installs stays behind in the build stages. Compiled here: nothing can be written where it will run.
FROM base AS build
RUN python3 -m venv /opt/swamp
WORKDIR /source
COPY . .
RUN /opt/swamp/bin/python -m pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt . \
 && /opt/swamp/bin/python -m pip uninstall --yes --quiet setuptools pip


FROM base AS build-rq-dashboard
RUN python3 -m venv /opt/tool
COPY tests/contracts/rq-3.0.txt .
RUN /opt/tool/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --requirement rq-3.0.txt \
 && /opt/tool/bin/python -m pip uninstall --yes --quiet setuptools pip


# rq-exporter wants an older RQ and redis-py.
FROM base AS build-rq-exporter
RUN python3 -m venv /opt/tool
COPY tests/contracts/rq-exporter.txt .
RUN /opt/tool/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --requirement rq-exporter.txt \
 && /opt/tool/bin/python -m pip uninstall --yes --quiet setuptools pip


FROM base AS rq-dashboard
COPY --from=build-rq-dashboard /opt/tool /opt/tool
ENV PATH=/opt/tool/bin:$PATH
USER 10001:10001
EXPOSE 9181
HEALTHCHECK --interval=5s --timeout=4s --start-period=20s --retries=6 \
    CMD ["python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 9181), 3).close()"]
ENTRYPOINT ["rq-dashboard"]


FROM base AS rq-exporter
COPY --from=build-rq-exporter /opt/tool /opt/tool
ENV PATH=/opt/tool/bin:$PATH
USER 10001:10001
EXPOSE 9726
HEALTHCHECK --interval=5s --timeout=4s --start-period=20s --retries=6 \
    CMD ["python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 9726), 3).close()"]
ENTRYPOINT ["rq-exporter"]


FROM base AS swamp
COPY --from=build /opt/swamp /opt/swamp
# A worker answers where the orchestrator does, so that one check is for both.
ENV PATH=/opt/swamp/bin:$PATH SWAMP_WORKER_HEALTH_PORT=9090
USER 10001:10001
# A repository is mounted at /repository; workers keep their identities and their unsent results in /cache. Not declared
# as volumes: each container would leave nameless ones behind for what it does not use.
WORKDIR /repository
EXPOSE 9090
HEALTHCHECK --interval=5s --timeout=4s --start-period=20s --retries=6 \
    CMD ["python3", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9090, timeout=3); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["swamp"]
CMD ["--help"]
