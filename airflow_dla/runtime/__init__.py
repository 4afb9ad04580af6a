"""Where attempts run: one contract of seven methods (`contract`), processes of this host (`local`), containers (`docker`).

What a place can do besides has small contracts of its own: `Awaits`, `Collects`, `Discovers`, `Enterable`.
"""

from airflow_dla.runtime.contract import Awaits, Collects, Discovers, Enterable, Handle, Launch, LogSlice, Runtime, Status

__all__ = ["Awaits", "Collects", "Discovers", "Enterable", "Handle", "Launch", "LogSlice", "Runtime", "Status"]
