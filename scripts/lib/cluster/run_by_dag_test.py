"""Run a DAG by ``dag.test()``: ``run_by_dag_test.py DAG CONF``; the exit code tells how it went."""

import json
import os
import sys

from airflow.dag_processing.dagbag import DagBag
from airflow.utils import db

if __name__ == "__main__":
    db.initdb()
    dag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]).dags[sys.argv[1]]
    run = dag.test(run_conf=json.loads(sys.argv[2]))
    sys.exit(run.state != "success")
