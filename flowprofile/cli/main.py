"""The command group, and the one place where a refusal becomes text and an exit code."""

import shlex
import signal
import sys
from importlib import import_module
from typing import Any, Final, NoReturn

import click

from flowprofile.errors import FlowProfileError
from flowprofile.interruption import forget, interrupt

COMMANDS: Final = {
    "demo": "demo",
    "plan": "runs",
    "run": "runs",
    "declare": "runs",
    "rerun": "runs",
    "show": "stores",
    "status": "stores",
    "verify": "stores",
    "figures": "stores",
    "app": "looking",
    "compare": "comparing",
    "stats": "statistics",
    "report": "reporting",
    "ensure": "runs",
    "merge": "upkeep",
    "migrate": "upkeep",
    "export": "upkeep",
    "adopt": "adopting",
    "drop": "upkeep",
    "pin": "upkeep",
    "unpin": "upkeep",
    "room": "upkeep",
    "gc": "upkeep",
    "compact": "upkeep",
    "graph": "graphs",
    "diff": "graphs",
    "pipelines": "pipelines",
    "stores": "layouts",
    "models": "models",
    "layers": "layers",
    "train": "models",
    "convert": "models",
    "completion": "completion",
}
"""Each command and the module that holds it; a module is imported when its command is used."""

EXIT_CODES: Final = """\b
Exit codes:
  0    done, or nothing to do
  1    an error of FlowProfile, of your own code, or of the system
  2    an argument, definition or model was refused
  3    not a store, a newer one, or damaged
  4    over the memory or disk budget
  5    another planner holds the store
  6    a NaN or infinity appeared in a result
  7    workers cannot be had, or could not carry some tasks out
  130  interrupted; the same command resumes"""


class Lazy(click.Group):
    """A group that imports a command only when it is used, so that --help is instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = getattr(import_module(f"flowprofile.cli.{module}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As usual, but a wrong name lists the nearest."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from flowprofile.errors import nearest

            ctx.fail(f"There is no command {args[0]!r}; {nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.group(cls=Lazy, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="flowprofile")
def group() -> None:
    """Diffusion profiles: see inside image diffusion models, step by step, at scale."""


def main(args: list[str] | None = None) -> NoReturn:
    """Run a command; a refusal is printed and becomes its exit code, an interruption says how to go on."""
    forget()
    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, interrupt)
    try:
        group.main(args=args, prog_name="flowprofile", standalone_mode=False)
    except FlowProfileError as error:
        _explain(error)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        command = shlex.join(["flowprofile", *(args if args is not None else sys.argv[1:])])
        click.echo("\nStopped. Nothing that was saved is lost; to go on from there:", err=True)
        click.echo(f"  {command}", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        _explain(_of_the_system(error))
        sys.exit(1)
    sys.exit(0)


def _of_the_system(error: OSError) -> FlowProfileError:
    return FlowProfileError(
        f"{error.strerror or error}: {error.filename or 'no file is named'}",
        consequence="The command stopped there; every committed region is safe.",
        remedy="free space, permit writing, or name another place, and give the same command again",
        evidence=f"{type(error).__name__}, errno {error.errno}",
    )


def _explain(error: FlowProfileError) -> None:
    click.echo(click.style(f"flowprofile: {error.fact}", fg="red", bold=True), err=True)
    for label, value in (("", error.consequence), ("To mend it: ", error.remedy), ("Seen: ", error.evidence)):
        if value:
            click.echo(f"  {click.style(label, bold=True)}{value}", err=True)


def printed(value: Any) -> None:
    """Print a value as JSON, for programs."""
    import json

    click.echo(json.dumps(value, indent=2, sort_keys=True))
