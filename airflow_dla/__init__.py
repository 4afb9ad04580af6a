"""Deep-learning agents for Apache Airflow: train, evaluate, version and serve with the right resources.

The helpers below return plain dicts, because Airflow finds what an upstream task will
push only in dicts, lists, tuples and sets. Everything is checked when it is written, but
for what holds a Jinja template or waits for a task: that is checked when it is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_dla.specs import AgentSpec, Distributed, ModelRef, UriRef

__all__ = ["__version__", "agent", "model", "torchrun", "uri"]

__version__ = "0.1.0"


def agent(
    name: str,
    *,
    image: str | None = None,
    code: str | None = ".",
    entrypoints: Mapping[str, str | Sequence[str]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Describe an agent: a deep-learning model packaged as a service.

    Parameters
    ----------
    name : str
        Known to the ledger under this name.
    image : str, optional
        Container image; jobs in local processes need none.
    code : str or None
        Folder relative to the DAG file, shipped with each job; None when everything is in the image.
    entrypoints : mapping of verb to entrypoint
        ``{"train": "digits_agent:train"}`` or ``{"train": ["python", "train.py"]}``.
    **more
        ``request, metrics, signature, env, secrets, volumes, server``; see `AgentSpec`.

    Returns
    -------
    dict
        Plain, checked; pass it to the operators.

    Examples
    --------
    >>> agent("digits", entrypoints={"train": "digits_agent:train"}, request={"cpu": "1-2"})["request"]
    {'cpu': '1.0-2.0'}
    """
    given = {"name": name, "image": image, "code": code, "entrypoints": entrypoints or {}, **more}
    return AgentSpec.draft(given)


def model(reference: str, *, missing: str = "error") -> dict[str, Any]:
    """Refer to a model version, ``"digits@champion"`` or ``"digits@3"``.

    Parameters
    ----------
    reference : str
        Name and version or alias, joined by ``@``.
    missing : {"error", "skip"}
        When there is no such version: fail, or leave the input out.
    """
    return ModelRef.draft({"model": reference, "missing": missing})


def torchrun(nodes: int | str = 1, nproc: int | str = "auto", *, max_restarts: int | str = 0, **more: Any) -> dict[str, Any]:
    """Spread a job over several processes, as ``torchrun`` does: for ``distributed=`` of an operator.

    Each process finds ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``, ``MASTER_ADDR`` and the rest of
    torchrun's variables, so that ``torch.distributed.init_process_group("gloo")`` needs nothing more.

    Parameters
    ----------
    nodes : int or str
        How many members, each with the operator's ``request``; ``"1-2"``: two if there is room
        within ``shrink_after``, else one.
    nproc : int, "gpu" or "auto"
        Processes of each: as many as it was granted GPUs; ``"auto"``: or one without any.
    max_restarts : int
        How often all begin again from the checkpoint after a program failed or was killed.
    **more
        ``shrink_after``; see `Distributed`.

    Examples
    --------
    >>> torchrun("1-2", max_restarts=3)
    {'nodes': [1, 2], 'max_restarts': 3}
    """
    return Distributed.draft({"nodes": nodes, "nproc": nproc, "max_restarts": max_restarts, **more})


def uri(address: str, *, mode: str = "stream") -> dict[str, Any]:
    """Refer to data outside the store, ``"s3://bucket/images/"``; pinned when first used.

    Parameters
    ----------
    address : str
        Anything fsspec opens, without a password.
    mode : {"stream", "copy"}
        Read in place, or copied into the job's scratch folder first.
    """
    return UriRef.draft({"uri": address, "mode": mode})
