"""What Alembic runs: every migration on the connection it was given, in the transaction of the caller."""

from __future__ import annotations

from alembic import context


def run() -> None:
    """Run the migrations on the caller's connection; neither logging nor an ini file is touched."""
    attributes = context.config.attributes
    context.configure(connection=attributes["connection"], version_table=attributes["version_table"])
    context.run_migrations()


# Alembic loads this file under the name "env_py"; an import by anybody else does nothing.
if __name__ == "env_py":
    run()
