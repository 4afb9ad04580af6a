"""Where attempts run: one contract of seven methods, one file for each kind of place."""

from airflow_dla.runtime.contract import Handle, Launch, LogSlice, Runtime, Status

__all__ = ["Handle", "Launch", "LogSlice", "Runtime", "Status"]
