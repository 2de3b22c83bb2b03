"""What a database's failures mean to the person who typed the command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.cli.errors import CliError, Exit


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what goes wrong with the database at ``url`` into CliError: not reachable, refused, or failed."""
    import asyncpg

    from gateway.infra.migrate import MigrationError
    from gateway.infra.postgres import is_unavailable
    from gateway.settings import masked_url

    try:
        yield
    except MigrationError as error:
        raise CliError(str(error)) from error
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise CliError(f"DATABASE_URL  {masked_url(url)}  refused the login: {error}", Exit.REFUSED) from error
    except asyncpg.InvalidCatalogNameError as error:
        raise CliError(f"DATABASE_URL  {masked_url(url)}  {error}", Exit.FAILED) from error
    except asyncpg.UndefinedTableError as error:
        raise CliError("The database has no tables of the gateway. Run: gateway migrate") from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if not is_unavailable(error):
            raise CliError(f"The database refused: {error}") from error
        seen = f"DATABASE_URL  {masked_url(url)}  is not reachable ({error or type(error).__name__})."
        raise CliError(f"{seen} Is PostgreSQL running?", Exit.UNREACHABLE) from error
