"""Tiny ImageNet: from Stanford's zip to verified training records."""

from airflow.sdk import Asset, chain, dag

from imagenet_etl.datasets import TINY_IMAGENET
from imagenet_operators import (
    DownloadOperator,
    FilterClassesOperator,
    PackOperator,
    PlanShardsOperator,
    ReportOperator,
    RestructureValOperator,
    UntarOperator,
    VerifyOperator,
)
from imagenet_operators.dag import FETCHING, PACKING, defaults, documentation, schedule
from imagenet_operators.deliver import deliver
from imagenet_operators.form import form


@dag(
    dag_id="tiny_imagenet",
    dag_display_name="Tiny ImageNet",
    description="From Stanford's zip to verified training records",
    schedule=schedule(TINY_IMAGENET),
    max_active_runs=1,
    default_args=defaults(TINY_IMAGENET),
    params=form(TINY_IMAGENET),
    doc_md=documentation(TINY_IMAGENET),
    tags=["imagenet"],
)
def tiny_imagenet():
    """Chain the stages; each finds what it needs by the receipts of those before it."""
    chain(
        DownloadOperator(task_id="download", **FETCHING),
        UntarOperator(task_id="untar"),
        RestructureValOperator(task_id="restructure_val"),
        FilterClassesOperator(task_id="filter_classes"),
        PlanShardsOperator(task_id="plan_shards"),
        PackOperator(task_id="pack", **PACKING),
        VerifyOperator(task_id="verify", **PACKING),
        ReportOperator(task_id="report"),
        deliver(Asset("tiny_imagenet")),
    )


tiny_imagenet()
