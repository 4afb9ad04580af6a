"""Attempts as Jobs of a Kubernetes cluster: one pod each, which never restarts."""
