# The project's image: Airflow with its DAGs, operators and library. See docs/compose.md.
#
#   docker build -t imagenet-etl:0.1.0 .                                 for docker compose
#   docker build -t imagenet-etl:0.1.0-kubernetes --target kubernetes .  for the Helm chart
#
# Linux on x86-64 alone: cykooz-resizer has no wheel for another one, and nothing is compiled here.
FROM python:3.12-slim-bookworm AS base

# tini reaps orphans and hands SIGTERM on, so that Celery ends warmly.
RUN apt-get update \
  && apt-get install -y --no-install-recommends tini \
  && rm -rf /var/lib/apt/lists/* \
  && useradd --uid 50000 --gid 0 --home-dir /opt/airflow --create-home airflow \
  && install -d -o 50000 -g 0 -m 775 /opt/airflow /data /scratch /opt/airflow/auth /opt/airflow/logs

ENV AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONPATH=/opt/airflow/include \
    PYTHONUNBUFFERED=1 \
    TMPDIR=/scratch

WORKDIR /opt/airflow

# A layer of its own: it is made anew only when the lock changes.
COPY requirements.lock ./
RUN pip install --only-binary :all: --require-hashes -r requirements.lock

# The Helm chart's probes call /entrypoint.
COPY --chmod=755 compose/entrypoint /entrypoint
ENTRYPOINT ["/usr/bin/tini", "--", "/entrypoint"]
CMD ["airflow", "version"]

# What the Helm chart takes for granted: the Kubernetes executor and the FAB login.
FROM base AS kubernetes
COPY docs/kubernetes/requirements.lock ./requirements-kubernetes.lock
RUN pip install --only-binary :all: --require-hashes -r requirements-kubernetes.lock
COPY compose ./compose
COPY include ./include
COPY plugins ./plugins
COPY dags ./dags
RUN python -m compileall -q include plugins dags
USER 50000:0

FROM base AS airflow
COPY compose ./compose
COPY include ./include
COPY plugins ./plugins
COPY dags ./dags
RUN python -m compileall -q include plugins dags
USER 50000:0
