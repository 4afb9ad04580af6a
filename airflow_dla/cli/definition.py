"""Which commands there are. Airflow imports this whenever it parses a command line: the commands themselves load later."""

from __future__ import annotations

from argparse import REMAINDER

from airflow.cli.cli_config import ActionCommand, Arg, CLICommand, GroupCommand, lazy_load_command

from airflow_dla.cli.arguments import argument, duration, interval, more, natural, positive, whole

_CONNECTION = Arg(("--conn-id",), default="dla_default", metavar="ID", help="Connection of the workspace (default: dla_default)")
_JSON = Arg(("--json",), action="store_true", help="Print exactly one JSON document; progress and logs go to standard error")
_EVERYWHERE = (_CONNECTION, _JSON)

_JOB = Arg(("job",), metavar="JOB", help="Id of a job, or of one of its attempts (JOB.NUMBER), as `jobs list` shows them")
_MODEL = Arg(("model",), metavar="MODEL", help="Name of a model")
_ALIAS = Arg(("--alias",), default="champion", metavar="ALIAS", help="The alias to move (default: champion)")
_WHY = Arg(("--why",), default="", metavar="TEXT", help="Why, for the log")


def get_cli_commands() -> list[CLICommand]:
    """Return the group ``airflow dla``."""
    commands = (*_alone(), _ledger(), _nodes(), _teams(), _agents(), _jobs(), _models(), _artifacts(), _forecast())
    return [GroupCommand(name="dla", help="Deep-learning agents: jobs, allocation, models, artifacts", subcommands=commands)]


def _command(name: str, function: str, text: str, *args: Arg) -> ActionCommand:
    return ActionCommand(name=name, help=text, func=lazy_load_command(f"airflow_dla.cli.{function}"), args=args)


def _alone() -> tuple[ActionCommand, ...]:
    home = Arg(("--home",), metavar="FOLDER", help="Airflow home of the demo (default: airflow-dla/demo in your data folder)")
    file = Arg(
        ("file",), metavar="FILE", help="YAML or JSON: {capacity: {cpu: 80}, requests: [{name: a, cpu: 50}]}; - reads standard input"
    )
    folder = Arg(("folder",), metavar="FOLDER", help="New, or empty")
    place = Arg(("--place",), metavar="NAME", help="Check this place alone: what its engine or cluster lacks (default: everything)")
    return (
        _command("demo", "demo.demo", "Run the digits agent's pipeline on this machine, in an Airflow of its own", home, _JSON),
        _command("doctor", "doctor.doctor", "Check the workspace and this host, and say what to fix", place, *_EVERYWHERE),
        _command("allocate", "allocate.allocate", "Solve an allocation problem from a file; needs no workspace", file, _JSON),
        _command("deploy", "deploy.deploy", "Write what a Kubernetes cluster is given: kustomizations and Helm values", folder, _JSON),
        _simulate(),
        _shadow(),
        _why(),
        _usage(),
    )


def _why() -> ActionCommand:
    task = Arg(("task",), metavar="TASK", help="DAG.TASK, TASK, or the id of a job or attempt")
    run = Arg(("--run",), metavar="RUN", help="Only this run (default: every one that lives, else the last)")
    return _command("why", "why.why", "Say why a job waits or got what it got, and what would help", task, run, *_EVERYWHERE)


def _usage() -> ActionCommand:
    args = (
        Arg(("--by",), choices=("team", "dag", "model"), default="team", help="Sum up by team (default), dag or model"),
        Arg(("--since",), type=duration, default=30 * 86_400.0, metavar="TIME", help="Jobs asked for since then, like 7d (default: 30d)"),
        Arg(("--limit",), type=natural, default=100_000, metavar="N", help="At most so many attempts, newest first (default: 100000)"),
        *_EVERYWHERE,
    )
    return _command("usage", "teams.show_usage", "Sum up GPU-hours granted, used and idle, their cost, and waiting", *args)


def _simulate() -> ActionCommand:
    args = (
        Arg(("trace",), nargs="?", metavar="TRACE", help="Jobs in Gavel's format, one on a line; or PODS.csv, a list of pods to place"),
        Arg(
            ("--history",), action="store_true", help="Instead of a trace: the workspace's own jobs, as --add and --strategy would have it"
        ),
        Arg(("--since",), type=duration, default=30 * 86_400.0, metavar="TIME", help="--history: jobs asked for since then (default: 30d)"),
        Arg(("--add",), type=more, metavar="WHAT", help="--history: with so much more, like gpu=2,memory=64GiB"),
        Arg(("--plot",), metavar="FILE", help="Draw it, as FILE.png (needs matplotlib) or FILE.html"),
        Arg(("--cluster",), metavar="GPUS", help="GPUs by type, like 8xv100,16xp100,24xk80; or NODES.csv for PODS.csv"),
        Arg(
            ("--strategy",),
            metavar="NAME",
            help="heterogeneous (default), fifo, typed-fifo or las; --history: lp, greedy, fair, price or auction",
        ),
        Arg(("--objective",), default="jct", metavar="NAME", help="jct (default), makespan, max-min, finish-time, cost or slo"),
        Arg(("--throughputs",), metavar="FILE", help="Steps per second; simulation_throughputs.json beside or above the trace by default"),
        Arg(("--round-s",), type=positive, metavar="S", help="Stop and move jobs only every S seconds (default: at every event)"),
        Arg(("--restart-s",), type=duration, default=0.0, metavar="S", help="What starting a job again costs it (default: 0)"),
        Arg(("--speedup",), type=positive, default=1.0, metavar="FACTOR", help="Let jobs arrive so much faster (default: 1)"),
        Arg(("--measure",), type=interval, default=slice(None), metavar="A:B", help="Average over the jobs A to B-1 by arrival"),
        Arg(
            ("--inflate",), type=float, default=1.3, metavar="X", help="PODS.csv: GPUs requested in all, of those there are (default: 1.3)"
        ),
        Arg(("--seeds",), type=whole, default=10, metavar="N", help="PODS.csv: how many shuffles, seeds 42, 43, ... (default: 10)"),
        Arg(("--placement",), default="priced", metavar="POLICY", help="PODS.csv: priced (default), fgd, best-fit or random"),
        *_EVERYWHERE,
    )
    return _command("simulate", "simulate.run", "Simulate a strategy on a trace or on our own history, or a placement on a list", *args)


def _shadow() -> ActionCommand:
    args = (
        Arg(
            ("mapping",), metavar="FILE", help="YAML or JSON: which tasks of which pools, operators and DAGs use what, teams, policy, nodes"
        ),
        Arg(("--since",), type=duration, default=30 * 86_400.0, metavar="TIME", help="Task instances since then (default: 30d)"),
        Arg(("--nodes",), metavar="FILE", help="What `kubectl get nodes -o json` printed, instead of nodes in FILE"),
        Arg(("--pods",), metavar="FILE", help="What `kubectl get pods -A -o json` printed: others' pods are taken off the nodes"),
        Arg(("--task-instances",), metavar="FILE", help="Saved answers of the REST API to read instead of asking it"),
        Arg(("--url",), metavar="URL", help="Of Airflow's API server (default: [api] base_url)"),
        Arg(
            ("--user",),
            metavar="NAME",
            help="Airflow user whose password is in $DLA_AIRFLOW_PASSWORD (default: a token in $DLA_AIRFLOW_TOKEN)",
        ),
        Arg(("--plot",), metavar="FILE", help="Draw it, as FILE.png (needs matplotlib) or FILE.html"),
        _JSON,
    )
    return _command("shadow", "shadow.run", "Say what our rounds would have made of an Airflow's own history; changes nothing", *args)


def _ledger() -> GroupCommand:
    commands = (
        _command("status", "ledger.status", "Show the ledger's schema; exit status 1 unless it is current", *_EVERYWHERE),
        _command("upgrade", "ledger.upgrade", "Create the ledger's schema, or bring it up to date", *_EVERYWHERE),
    )
    return GroupCommand(name="ledger", help="The ledger's schema", subcommands=commands)


def _nodes() -> GroupCommand:
    name = Arg(("name",), metavar="NAME", help="Name of a node")
    file = Arg(("file",), metavar="FILE", help="YAML or JSON by name: {a1: {capacity: {cpu: 64, gpu: 8}, labels: {gpu_type: a100}}}")
    commands = (
        _command("list", "nodes.list_nodes", "List nodes: what they have and what of it is granted", *_EVERYWHERE),
        _command("declare", "nodes.declare", "Register machines that others launch jobs on, for `granted` operators", file, *_EVERYWHERE),
        _command("remove", "nodes.remove", "Take a node out; nothing more is granted there", name, *_EVERYWHERE),
    )
    return GroupCommand(name="nodes", help="What there is to grant", subcommands=commands)


def _teams() -> GroupCommand:
    file = Arg(("file",), metavar="FILE", help="YAML or JSON by name: {vision: {guaranteed: {gpu: 4}, dags: ['ocr_*']}}")
    dry = Arg(("--dry-run",), action="store_true", help="Only say what would change")
    commands = (
        _command("list", "teams.list_teams", "List teams: what they may have and what they hold", *_EVERYWHERE),
        _command("apply", "teams.apply", "Make a file's teams the teams there are; say what changes", file, dry, *_EVERYWHERE),
    )
    return GroupCommand(name="teams", help="Who pays: guarantees, borrowing, budgets", subcommands=commands)


def _agents() -> GroupCommand:
    name = Arg(("name",), metavar="NAME", help="Name of an agent")
    source = Arg(("source",), metavar="FILE", help="A YAML or JSON file, or module:name of a Python value, as agent() returns it")
    commands = (
        _command("list", "agents.list_agents", "List the agents that the ledger knows", *_EVERYWHERE),
        _command("show", "agents.show", "Show an agent", name, *_EVERYWHERE),
        _command("check", "agents.check", "Check an agent's description, its entrypoints included", source, _JSON),
    )
    return GroupCommand(name="agents", help="Agents", subcommands=commands)


def _jobs() -> GroupCommand:
    state = Arg(("--state",), metavar="STATE", help="Only jobs that are live, or in this state, or ended for this reason")
    dag = Arg(("--dag",), metavar="DAG", help="Only jobs of this DAG")
    limit = Arg(("--limit",), type=natural, default=100, metavar="N", help="At most so many, newest first (default: 100)")
    number = Arg(("priority",), type=int, metavar="N", help="Larger goes first")
    follow = Arg(("-f", "--follow"), action="store_true", help="Go on until the job ends")
    stream = Arg(("--stream",), choices=("stdout", "stderr", "both"), default="both", help="Only what it wrote there (default: both)")
    commands = (
        _command("list", "jobs.list_jobs", "List jobs, newest first", state, dag, limit, *_EVERYWHERE),
        _command("show", "jobs.show", "Show a job: its state, what it was granted and why, how it ended", _JOB, *_EVERYWHERE),
        _command("logs", "jobs_logs.logs", "Print what a job on this host, or on an engine, wrote", _JOB, follow, stream, *_EVERYWHERE),
        _exec(),
        _rerun(),
        _command("stop", "jobs.stop", "Stop a job", _JOB, *_EVERYWHERE),
        _command("priority", "jobs.priority", "Change the priority of a job that waits or runs", _JOB, number, *_EVERYWHERE),
    )
    return GroupCommand(name="jobs", help="Jobs", subcommands=commands)


def _exec() -> ActionCommand:
    words = Arg(("command",), nargs=REMAINDER, metavar="-- COMMAND", help="What to run (default: a shell); options of ours come before JOB")
    text = "Run a command inside a job that runs: its folder, its environment but for secrets, its limits"
    return _command("exec", "jobs_exec.execute", text, _CONNECTION, _JOB, words)


def _rerun() -> ActionCommand:
    args = (
        Arg(("--here",), action="store_true", required=True, help="On this machine: no task, no grant, nothing published"),
        Arg(("--attempt",), type=whole, metavar="N", help="The job's N-th attempt (default: the last, or the one that JOB names)"),
        Arg(("--folder",), metavar="FOLDER", help="A new or empty folder to run in (default: one among temporary files)"),
        Arg(("--keep",), action="store_true", help="Keep inputs, code and scratch, too; they are kept whenever it fails"),
        Arg(("--set",), type=argument, action="append", default=[], metavar="NAME=VALUE", help="Another value of an argument; repeatable"),
        Arg(("--with-secrets",), action="store_true", help="Look the agent's secrets up and hand them to the job (default: without)"),
        Arg(("--in-image",), action="store_true", help="In its image, on a Docker place (default: with programs of this machine)"),
        Arg(("--shell",), action="store_true", help="A shell in the job's folder, with all in place, instead of running it"),
    )
    return _command("rerun", "jobs_rerun.rerun", "Run a job once more: the same code, inputs, seed and args", _JOB, *args, *_EVERYWHERE)


def _models() -> GroupCommand:
    number = Arg(("version",), type=whole, metavar="VERSION", help="Number of a version")
    force = Arg(("--force",), action="store_true", help="Also when callers of the present version could not call it")
    commands = (
        _command("list", "models.list_models", "List models, their versions and aliases", *_EVERYWHERE),
        _command("show", "models.show", "Show a model's versions, and the log of its aliases", _MODEL, *_EVERYWHERE),
        _command("promote", "models.promote", "Point an alias at a version", _MODEL, number, _ALIAS, _WHY, force, *_EVERYWHERE),
        _command("rollback", "models.rollback", "Point an alias at the version before", _MODEL, _ALIAS, _WHY, *_EVERYWHERE),
    )
    return GroupCommand(name="models", help="Model versions", subcommands=commands)


def _artifacts() -> GroupCommand:
    digests = Arg(("digests",), nargs="*", metavar="DIGEST", help="Artifacts to read; all of the store's by default")
    dry = Arg(("--dry-run",), action="store_true", help="Only say what would be deleted")
    grace = Arg(("--grace",), type=duration, default=3600.0, metavar="TIME", help="Keep what is younger (default: 1h)")
    commands = (
        _command("verify", "artifacts.verify", "Read every byte and compare it with what was published", digests, *_EVERYWHERE),
        _command("gc", "artifacts.collect", "Delete what no model, young job, checkpoint or pin needs", dry, grace, *_EVERYWHERE),
    )
    return GroupCommand(name="artifacts", help="The artifact store", subcommands=commands)


def _forecast() -> GroupCommand:
    url = Arg(("--url",), metavar="URL", help="Of Airflow's API server (default: [api] base_url)")
    user = Arg(
        ("--user",), metavar="NAME", help="Airflow user whose password is in $DLA_AIRFLOW_PASSWORD (default: a token in $DLA_AIRFLOW_TOKEN)"
    )
    commands = (
        _command("show", "forecast.show", "Show which jobs are expected to ask for resources soon", *_EVERYWHERE),
        _command(
            "refresh", "forecast.refresh", "Read next runs over Airflow's REST API and write what is expected", url, user, *_EVERYWHERE
        ),
    )
    return GroupCommand(name="forecast", help="What is about to be asked for", subcommands=commands)
