"""Attempts as containers of an engine, local or remote: any image, limits from the grant, nothing lost.

An engine is one node of the workspace, named like its place. The same job runs here as on
the local place; what differs is who holds its limits, and where its files lie.

What is decided, as functions of values that never touch an engine:

``facts``
    what an engine and an image said, as values.
``policy``
    what a place refuses: images, host folders, volumes, settings of the engine.
``volumes`` · ``overrides``
    how those two are written.
``body``
    the request that makes a container, and the one that changes it while it runs.

What it has in common with every place that runs images is in `airflow_dla.runtime`.

What touches the engine and this host:

``engine`` · ``streams`` · ``pulls``
    calls, logs by byte offset, pulls that go on beside their caller.
``ground`` · ``shared_ground``
    where the files of attempts lie: a folder of this host that the engine mounts. A mate
    (``airflow_dla.agents.mate``) fetches into it and publishes from it; it also samples what
    the job uses, and has one stopped that takes more of the disk than it was granted.
``volume_ground`` · ``shelves`` · ``mates``
    the same in volumes of an engine on another host, whose mate is a helper container; nobody
    holds those to a grant of disk.
``nodes``
    the engine's machine as a node, less what others use of it.
``logs`` · ``kept_logs`` · ``interpreters`` · ``entering``
    logs that outlive their container, standard error told apart in them, which images have a
    Python, commands inside a running container.
``runtime``
    the contract of `airflow_dla.runtime.contract`, made of all these.

Inside a container a job finds, in any image:

====================== ======================================================================
``/dla``               the attempt's folder: ``in/NAME`` (read-only), ``out/NAME``, ``code/``
                       (its working directory), ``checkpoint/``, ``tmp/`` (``TMPDIR`` and
                       ``HOME``, on disk)
``/tmp``               in memory, at most 1 GiB or half of the memory granted, which it counts to
``/opt/dla/agents``    the runner, standard library only: runs functions, hands over secrets,
                       reads metrics; not used for a command that needs none of these
====================== ======================================================================

All else of the image is read-only, capabilities are dropped, the user is not root, and
the network is the first that the place's policy names.
"""
