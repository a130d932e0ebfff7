"""Names of the official Helm chart's values, as far as this project's examples use them.

Source: chart/values.yaml of apache/airflow after chart 1.20 (March 2026), and the release notes of
charts 1.21 (``workers.celery.extraVolumes`` and others) and 1.22.
"""

FREE = frozenset({"config", "workers.serviceAccount.annotations"})
"""Below these, the names are the user's or Airflow's own."""

FRAGMENTS = frozenset(
    {"resources", "extraVolumes", "extraVolumeMounts", "env", "volumes", "volumeMounts"}
)
"""What the chart puts into a pod as it is."""

KNOWN = frozenset(
    {
        "airflowVersion",
        "apiSecretKeySecretName",
        "apiServer.resources",
        "createUserJob.enabled",
        "dagProcessor.logGroomerSidecar.enabled",
        "dagProcessor.resources",
        "data.metadataSecretName",
        "defaultAirflowRepository",
        "defaultAirflowTag",
        "env",
        "executor",
        "fernetKeySecretName",
        "jwtSecretName",
        "postgresql.enabled",
        "redis.enabled",
        "scheduler.logGroomerSidecar.enabled",
        "scheduler.resources",
        "triggerer.logGroomerSidecar.enabled",
        "triggerer.persistence.enabled",
        "triggerer.resources",
        "workers.celery.extraVolumeMounts",
        "workers.celery.extraVolumes",
        "workers.celery.persistence.enabled",
        "workers.celery.queue",
        "workers.celery.replicas",
        "workers.celery.resources",
        "workers.celery.terminationGracePeriodSeconds",
        "workers.kubernetes.extraVolumeMounts",
        "workers.kubernetes.extraVolumes",
        "workers.kubernetes.resources",
        "workers.kubernetes.terminationGracePeriodSeconds",
        "workers.logGroomerSidecar.enabled",
    }
)
