"""Attempts as containers of a Docker engine."""
