"""The server of these tests."""

from faulty_bucket import bucket, running_server, server

__all__ = ["bucket", "running_server", "server"]
