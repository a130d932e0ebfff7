"""ILSVRC2012: from the official archives, or what has become of them, to verified records."""

from airflow.sdk import Asset, chain, dag

from imagenet_etl.datasets import ILSVRC2012
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
from imagenet_operators.dag import FETCHING, PACKING, WHOLE, defaults, documentation, schedule
from imagenet_operators.deliver import deliver
from imagenet_operators.form import form


@dag(
    dag_id="ilsvrc2012",
    dag_display_name="ILSVRC2012",
    description="From the official archives, or what has become of them, to verified records",
    schedule=schedule(ILSVRC2012),
    max_active_runs=1,
    default_args=defaults(ILSVRC2012),
    params=form(ILSVRC2012),
    doc_md=documentation(ILSVRC2012),
    tags=["imagenet"],
)
def ilsvrc2012():
    """Chain the stages; each finds what it needs by the receipts of those before it."""
    plan = PlanShardsOperator(task_id="plan_shards", in_groups=True)
    chain(
        DownloadOperator.partial(
            task_id="download", map_index_template="{{ task.archive }}", **FETCHING
        ).expand(archive=[one.name for one in ILSVRC2012.archives]),
        UntarOperator(task_id="untar"),
        RestructureValOperator(task_id="restructure_val"),
        FilterClassesOperator(task_id="filter_classes"),
        plan,
        PackOperator.partial(
            task_id="pack", map_index_template="group {{ task.group }}", **PACKING
        ).expand(group=plan.output),
        PackOperator(task_id="assemble", **WHOLE),
        VerifyOperator(task_id="verify", **WHOLE),
        ReportOperator(task_id="report"),
        deliver(Asset("ilsvrc2012")),
    )


ilsvrc2012()
