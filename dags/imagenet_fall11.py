"""Full ImageNet, fall11 or winter21: from one tar a class to verified records of the large ones."""

from airflow.sdk import AssetAlias, chain, dag

from imagenet_etl.datasets import IMAGENET_FALL11
from imagenet_operators import (
    DownloadOperator,
    FilterClassesOperator,
    PackOperator,
    PlanShardsOperator,
    ReportOperator,
    SplitValOperator,
    UntarOperator,
    VerifyOperator,
)
from imagenet_operators.dag import FETCHING, PACKING, WHOLE, defaults, documentation, schedule
from imagenet_operators.deliver import deliver
from imagenet_operators.form import form


@dag(
    dag_id="imagenet_fall11",
    dag_display_name="ImageNet fall11, winter21",
    description="From one tar a class to verified records of the large classes",
    schedule=schedule(IMAGENET_FALL11),
    max_active_runs=1,
    default_args=defaults(IMAGENET_FALL11),
    params=form(IMAGENET_FALL11),
    doc_md=documentation(IMAGENET_FALL11),
    tags=["imagenet"],
)
def imagenet_fall11():
    """Chain the stages; each finds what it needs by the receipts of those before it."""
    plan = PlanShardsOperator(task_id="plan_shards", in_groups=True)
    chain(
        DownloadOperator(task_id="download", **FETCHING),
        UntarOperator(task_id="untar"),
        FilterClassesOperator(task_id="filter_classes"),
        SplitValOperator(task_id="split_val"),
        plan,
        PackOperator.partial(
            task_id="pack", map_index_template="group {{ task.group }}", **PACKING
        ).expand(group=plan.output),
        PackOperator(task_id="assemble", **WHOLE),
        VerifyOperator(task_id="verify", **WHOLE),
        ReportOperator(task_id="report"),
        deliver(AssetAlias("imagenet_full")),
    )


imagenet_fall11()
