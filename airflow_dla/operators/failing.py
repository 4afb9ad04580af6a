"""Which of our errors Airflow must not retry."""

from __future__ import annotations

from airflow.sdk.exceptions import AirflowFailException

from airflow_dla.errors import DlaError


class failing_for_good:  # noqa: N801 - used like a function
    """Turn our errors that no retry can mend into the one that Airflow does not retry."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, DlaError) and not error.retryable:
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error
