"""The servers of these tests."""

from azure_blobs import container, running_azure
from faulty_bucket import bucket, running_server, server

__all__ = ["bucket", "container", "running_azure", "running_server", "server"]
