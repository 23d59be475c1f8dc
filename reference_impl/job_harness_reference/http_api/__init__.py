"""The HTTP face of the queue: an ASGI application made by `create_app`."""

from job_harness_reference.http_api.application import RunMaintenance, create_app
from job_harness_reference.http_api.identity import Authenticator, trusted_header

__all__ = ["Authenticator", "RunMaintenance", "create_app", "trusted_header"]
