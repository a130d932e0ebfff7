"""Airflow on Celery, Redis and Postgres as processes on this machine: see ``scripts/cluster``."""
