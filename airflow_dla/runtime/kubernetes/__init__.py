"""Attempts as Jobs of a Kubernetes cluster: one pod each, which never restarts.

What is decided, as functions of plain documents that never touch a cluster:

``names`` · ``facts``
    what objects of ours are called and labelled; what a pod and a Job say, as values.
``body`` · ``pods`` · ``template``
    the Job of an attempt; what its pod has; what a job may ask of it besides.
``policy`` · ``volumes``
    what a place refuses; claims and folders that are mounted.
``resizing``
    the request that changes a running pod's limits, and whether they are in force.
``waiting`` · ``ending``
    why a pod is not there yet, and whether it ever will be; how it ended.
"""
