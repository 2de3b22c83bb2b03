"""``gateway health``: what a container's health check runs. It imports little: it is started every few seconds."""

from __future__ import annotations

import http.client
import json
import os
from urllib.parse import urlsplit

import click

from gateway.cli.command import GatewayCommand, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.output import print_json
from gateway.cli.serve import url_host

TIMEOUT_S = 2.5  # under the timeout of the health checks that call this


@click.command(cls=GatewayCommand)
@click.option("--ready", is_flag=True, help="Ask for readiness: PostgreSQL answers, its schema fits, no drain.")
def health(ready: bool) -> None:
    """Ask the process on this host (PORT, else 3003) whether it lives. Needs no token.

    Exit code 1 when it says no, 3 when nobody answers.
    """
    url = invocation().url or os.environ.get("GATEWAY_URL") or _here()
    status, said = _get(url, "/health/ready" if ready else "/health/live")
    if status != http.client.OK:
        raise CliError(f"{url} says {status}: {said.get('reason', 'no reason given')}", code="unhealthy")
    if invocation().json:
        print_json(said)
    else:
        print(said["status"])


def _here() -> str:
    port = os.environ.get("PORT", "")
    return f"http://{url_host(os.environ.get('HOST', ''))}:{port if port.isdecimal() else 3003}"


def _get(url: str, path: str) -> tuple[int, dict[str, str]]:
    """Status and JSON object. Not through a proxy that the environment may name: the process is here."""
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or address.hostname is None:
        raise CliError(f'"{url}" is not the address of an instance; example: http://localhost:3003', Exit.USAGE)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.hostname, address.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, dict(json.loads(answer.read()))
    except (OSError, http.client.HTTPException) as error:
        raise CliError(f"{url} does not answer: {error}", Exit.UNREACHABLE) from error
    except ValueError as error:
        raise CliError(f"{url} answers, but not as a gateway does", Exit.FAILED) from error
    finally:
        connection.close()
