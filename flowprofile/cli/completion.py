"""completion: make the shell complete commands, pipelines and models."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    For instance, in ~/.bashrc:  eval "$(flowprofile completion bash)"
    """
    from flowprofile.cli.main import group

    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(group, {}, "flowprofile", "_FLOWPROFILE_COMPLETE").source())
