"""From an Airflow connection to the objects below: the workspace, and grants for anybody's operator.

`DlaHook` reads a connection of type ``dla`` and builds ledger, store, registry and
places; `ResourceAllocationHook` runs allocation rounds and holds grants.
"""

from airflow_dla.hooks.resource_allocation import ResourceAllocationHook
from airflow_dla.hooks.workspace import DlaHook

__all__ = ["DlaHook", "ResourceAllocationHook"]
