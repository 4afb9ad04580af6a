"""Where attempts run: one contract of seven methods (`contract`), and the places that keep it.

They are processes of this host (`local`), containers (`docker`), and pods (`kubernetes`). What a
place can do besides has small contracts of its own: `Awaits`, `Collects`, `Discovers`, `Enterable`.

What the places that run images have in common, as functions of values:

``images`` · ``volumes`` · ``overrides`` · ``policy``
    how those three are written, and what a policy's words for them mean; what a place refuses.
``command`` · ``limits``
    command line and environment of what runs in a container; what holds it to its grant.
``facts`` · ``conclude`` · ``starting`` · ``readings``
    what is known of an attempt; how it ended, from what was said of it; why it could not start;
    metrics read from its log.

And what they ask with:

``answers`` · ``silence``
    what servers answer, and what it means for all when one does not.
``wires`` · ``chunks``
    answers that never end.
"""

from airflow_dla.runtime.contract import Awaits, Collects, Discovers, Enterable, Handle, Launch, LogSlice, Runtime, Status

__all__ = ["Awaits", "Collects", "Discovers", "Enterable", "Handle", "Launch", "LogSlice", "Runtime", "Status"]
