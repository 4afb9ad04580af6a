"""Attempts as Jobs of a Kubernetes cluster: one pod each, which never restarts.

The same job runs here as on every other place; what differs is who holds its limits,
where its files lie, and who decides about its node.

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

What asks the cluster, in one process however many jobs it follows:

``cluster``
    typed requests, each with its time limit, its faults in our words. ``kinds`` says where
    each kind of object is, ``answers`` what an answer means, ``server`` how requests are
    sent: who we are, throttling, servers that do not answer. ``channel`` runs commands in
    containers.
``mirror``
    the objects of a kind as one shared watch tells them.
``logs`` · ``stamps``
    output by byte offset, from a server that knows times alone.

What there is to grant, and who may decide about it:

``discovery``
    looks at the cluster: ``nodes`` are its nodes less what pods of others set aside there
    (``quantities``), ``pools`` the cluster as one node, where nodes are not ours to see.
``kueue`` · ``once``
    what Kueue makes of a job, where it decides; one pod for an attempt, though it starts Jobs again.
``permissions``
    every verb that we use, what for, and what is not had without it.

How files get into pods and out of them, which hold no credentials:

``freight``
    what whoever follows brings and takes, by the ``door`` of a helper (``airflow_dla.agents.door``),
    as ``told`` by it; ``goods`` is what the store has, ``frames`` how bytes are sent,
    ``bundle`` our runner on its way.
``cargo`` · ``porters``
    the same for many attempts at once, in threads of their own.

``shelf`` · ``reasons`` · ``usage`` · ``endings`` · ``runtime``
    what the cluster remembers of attempts for us; why they wait; what they use; how they ended; and the
    contract of `airflow_dla.runtime.contract`, made of all these.
"""
