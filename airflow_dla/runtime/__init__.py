"""Where attempts run: one contract of seven methods, one file for each kind of place."""

from airflow_dla.runtime.contract import Collects, Discovers, Handle, Launch, LogSlice, Runtime, Status

__all__ = ["Collects", "Discovers", "Handle", "Launch", "LogSlice", "Runtime", "Status"]
