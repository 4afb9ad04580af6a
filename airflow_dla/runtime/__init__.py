"""Where attempts run: one contract of seven methods, one file for each kind of place."""

from airflow_dla.runtime.contract import Collects, Discovers, Enterable, Handle, Launch, LogSlice, Runtime, Status

__all__ = ["Collects", "Discovers", "Enterable", "Handle", "Launch", "LogSlice", "Runtime", "Status"]
