"""Every error that airflow-dla raises on purpose, in one tree.

::

    DlaError
    ├── InvalidSpec (ValueError)          what was asked for breaks a rule
    │   ├── NeverGrantable                larger than every node there is
    │   └── SecretExposed                 a password where others can read it
    ├── NotFound (LookupError)            a name, digest or file that does not exist
    ├── Conflict                          somebody else got there first
    ├── WorkspaceMismatch                 this process resolved to another workspace
    ├── MissingExtra (ImportError)        an optional dependency is not installed
    ├── LedgerError
    │   ├── LedgerUnavailable (ConnectionError)   try again later, nothing is lost
    │   └── LedgerVersion                 the ledger's schema is not the code's
    ├── ArtifactError
    │   ├── CorruptArtifact               the bytes are not those that were published
    │   └── StoreUnavailable (OSError)    the store is full, read-only or out of reach
    ├── SolverFailed (RuntimeError)       the solver did not end at an optimum
    │   └── Infeasible                    no point satisfies the constraints
    ├── PlaceError
    │   ├── PlaceUnavailable (ConnectionError)    an engine does not answer; try again later
    │   ├── NotReady                      a launch goes on, and the same call continues it
    │   └── LaunchRefused                 a place will not run a job as it was asked for
    ├── GrantLost                         a lease expired and was taken away
    ├── GateFailed                        a model is not good enough
    └── JobError (RuntimeError)           a job did not succeed
        ├── JobFailed                     the user's program failed
        ├── JobOutOfMemory (MemoryError)  it needed more memory than it was granted
        ├── JobKilled                     a signal from outside ended it
        ├── JobLost                       its process or node disappeared
        ├── JobTimedOut (TimeoutError)    a deadline passed
        ├── JobPreempted                  it made room for something that matters more
        └── JobStopped                    a person or Airflow stopped it

A message says what was wrong, the value, the rule, where, and what would do.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ArtifactError",
    "Conflict",
    "CorruptArtifact",
    "DlaError",
    "GateFailed",
    "GrantLost",
    "Infeasible",
    "InvalidSpec",
    "JobError",
    "JobFailed",
    "JobKilled",
    "JobLost",
    "JobOutOfMemory",
    "JobPreempted",
    "JobStopped",
    "JobTimedOut",
    "LaunchRefused",
    "LedgerError",
    "LedgerUnavailable",
    "LedgerVersion",
    "MissingExtra",
    "NeverGrantable",
    "NotFound",
    "NotReady",
    "PlaceError",
    "PlaceUnavailable",
    "SecretExposed",
    "SolverFailed",
    "StoreUnavailable",
    "WorkspaceMismatch",
]


class DlaError(Exception):
    """Base of everything below; catching it catches nothing that is not ours.

    Attributes
    ----------
    retryable : bool
        Whether the same call may succeed later. The Airflow shell turns an
        error that is not retryable into ``AirflowFailException``.
    """

    retryable: ClassVar[bool] = True


class InvalidSpec(DlaError, ValueError):
    """Raised when what was asked for breaks a rule; trying again cannot help."""

    retryable = False


class NeverGrantable(InvalidSpec):
    """Raised when a request is larger than every node of the workspace."""


class SecretExposed(InvalidSpec):
    """Raised when a password stands where other people can read it."""


class NotFound(DlaError, LookupError):
    """Raised when a named thing does not exist."""

    retryable = False


class Conflict(DlaError):
    """Raised when a compare-and-set finds that somebody else got there first."""


class WorkspaceMismatch(DlaError):
    """Raised when a later hop of a job resolves to another workspace than the first."""

    retryable = False


class MissingExtra(DlaError, ImportError):
    """Raised when an optional dependency is needed and not installed; names the extra."""

    retryable = False


class LedgerError(DlaError):
    """Base of what can go wrong with the ledger itself."""


class LedgerUnavailable(LedgerError, ConnectionError):
    """Raised when the ledger does not answer; the caller may wait and try again."""


class LedgerVersion(LedgerError):
    """Raised when the ledger's schema is newer than this code, or was never made."""

    retryable = False


class ArtifactError(DlaError):
    """Base of what can go wrong with artifacts and their store."""


class CorruptArtifact(ArtifactError):
    """Raised when bytes read are not the bytes that were published."""


class StoreUnavailable(ArtifactError, OSError):
    """Raised when the store is full, read-only or out of reach."""


class SolverFailed(DlaError, RuntimeError):
    """Raised when a solver ends anywhere but at an optimum; carries its status."""


class Infeasible(SolverFailed):
    """Raised when no point satisfies the constraints."""


class PlaceError(DlaError):
    """Base of what can go wrong between us and a place where jobs run."""


class PlaceUnavailable(PlaceError, ConnectionError):
    """Raised when a place's engine does not answer; what runs there runs on."""


class NotReady(PlaceError):
    """Raised by a launch that goes on beside the caller: an image is pulled, inputs are fetched.

    The message tells how far it is; the same call, made again, continues it.
    """


class LaunchRefused(PlaceError):
    """Raised when a place will not or cannot run a job as it was asked for: its policy, its image."""

    retryable = False


class GrantLost(DlaError):
    """Raised to the holder of a grant whose lease has expired."""


class GateFailed(DlaError):
    """Raised when a model does not pass the gate it must pass; carries the numbers."""

    retryable = False


class JobError(DlaError, RuntimeError):
    """Base of the ways in which a job ends without success."""


class JobFailed(JobError):
    """Raised when the user's program failed by itself."""


class JobOutOfMemory(JobError, MemoryError):
    """Raised when a job needed more memory than it was granted."""


class JobKilled(JobError):
    """Raised when a signal from outside ended the job."""


class JobLost(JobError):
    """Raised when the job's process or node disappeared without a trace, or the node could not start it."""


class JobTimedOut(JobError, TimeoutError):
    """Raised when one of the job's deadlines passed."""


class JobPreempted(JobError):
    """Raised when the job made room for something that matters more."""


class JobStopped(JobError):
    """Raised when a person, or Airflow on a person's behalf, stopped the job."""
