"""The registry: numbered, immutable model versions, and the aliases that say which one to use.

A version is an artifact's digest with its signature, metrics and lineage. An *alias*
(``champion``, ``challenger``) is moved by compare-and-set, in the order of the data the
versions were made from, never to a model that its callers could not call, and every move
stays in a log, from which it can be rolled back. `Registry` is the contract;
`LedgerRegistry` keeps all of it in the workspace's ledger.
"""

from airflow_dla.registry.contract import Promotion, Registry
from airflow_dla.registry.ledger import LedgerRegistry
from airflow_dla.registry.signature import Signature, TensorSpec, compatible

__all__ = ["LedgerRegistry", "Promotion", "Registry", "Signature", "TensorSpec", "compatible"]
