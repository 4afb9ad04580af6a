"""The command line: ``airflow dla …``.

Airflow finds `definition.get_cli_commands` through the provider's ``cli`` key; it names
every command and imports none of them. A command is a function of parsed arguments that
returns an `answer.Answer`, what it has to say as one JSON document and as text;
`running.command` prints one of the two on standard output, sends everything else that is
printed (logs, progress) to standard error, and turns an error into one message and exit
status 1. Exit status 0 means success, 2 that the command was called wrongly.
"""
