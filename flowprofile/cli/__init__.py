"""The command line: thin. It reads arguments, calls one function of the library, and talks to a person."""

from flowprofile.cli.main import main as main
