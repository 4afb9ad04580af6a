"""What two measured alternatives took, in words."""

from __future__ import annotations

import statistics


def report(times: dict[str, list[float]]) -> str:
    """Write medians, quartiles and the ratio of the medians of two; the first is ours."""
    ours, theirs = times
    parts = []
    for what, found in times.items():
        low, middle, high = statistics.quantiles(found, n=4)
        parts.append(f"{what} {middle:.3f} s ({low:.3f}-{high:.3f})")
    ratio = statistics.median(times[ours]) / statistics.median(times[theirs])
    return f"{', '.join(parts)}, ratio {ratio:.3f}"
