"""What will be asked for, by how much and for how long, from what was: decisions about the future.

`quantile` says how large the next observation is, with few observations as with many, and
`newsvendor` which quantile costs least. `right_size` turns observed peaks into a request,
`run_quantile` says when jobs end. `learn` says when a schedule's jobs come, `season` when
those of no schedule do. `holds` keeps room for those that matter more.
"""

from airflow_dla.allocation.forecast.durations import expected_end, run_quantile
from airflow_dla.allocation.forecast.holds import Hold, holds
from airflow_dla.allocation.forecast.quantiles import newsvendor, quantile, recency
from airflow_dla.allocation.forecast.schedule import Observed, Pattern, by_task, learn
from airflow_dla.allocation.forecast.seasons import season
from airflow_dla.allocation.forecast.sizing import Sized, Use, right_size

__all__ = [
    "Hold",
    "Observed",
    "Pattern",
    "Sized",
    "Use",
    "by_task",
    "expected_end",
    "holds",
    "learn",
    "newsvendor",
    "quantile",
    "recency",
    "right_size",
    "run_quantile",
    "season",
]
