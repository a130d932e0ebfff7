"""From an ImageNet archive to verified training records: a pure library, free of Airflow.

Data flows one way: archive, index, plan, shards, manifest, cloud. ``pipeline`` chains the stages;
``python -m imagenet_etl`` runs them from the command line.
"""
