"""Artifacts: immutable outputs kept as plain files beside a manifest whose digest names them.

A `Store` lies in a folder or under any URL that fsspec opens. What it holds can be read
without us::

    artifacts/<aa>/<digest hex>/manifest.json    canonical JSON; its SHA-256 is the digest
    artifacts/<aa>/<digest hex>/files/<path…>    the files as they were published
    checkpoints/<job id>/<8 digits>.json         {"digest", "protocol", "size"}: newest last

A manifest is ``{"files": [{"path", "sha256", "size"}], "kind", "meta", "protocol"}``, keys
sorted, no white space, ASCII; files are sorted by path and one that may be executed says
``"executable": true``. It holds no time, so the same bytes always have the same digest, and
``sha256sum manifest.json files/*`` checks an artifact by hand.

Three rules carry the rest. *Published* means that ``manifest.json`` is in its place: a
folder store writes aside and renames, an object store writes the manifest last. *Read*
means verified: `Store.fetch` hashes every byte before a job sees it. *Deleted* means that no
named root wanted it and that it is older than the grace. One user id owns a folder store.

`pin` and `check_pin` do for data outside the store what a digest does for data inside.
"""

from airflow_dla.artifacts.exchange import Exchange
from airflow_dla.artifacts.garbage import Collected, Stored
from airflow_dla.artifacts.manifest import MANIFEST_PROTOCOL, FileEntry, Manifest
from airflow_dla.artifacts.measuring import manifest_of
from airflow_dla.artifacts.pins import check_pin, pin
from airflow_dla.artifacts.store import Store

__all__ = ["MANIFEST_PROTOCOL", "Collected", "Exchange", "FileEntry", "Manifest", "Store", "Stored", "check_pin", "manifest_of", "pin"]
