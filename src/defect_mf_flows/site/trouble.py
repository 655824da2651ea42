"""What a database refused, in one message without a traceback."""

from __future__ import annotations

from pathlib import Path

from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
)

from defect_mf_flows.errors import SiteError
from defect_mf_flows.site.secrets import without_passwords

UNAUTHORIZED = 13
AUTHENTICATION_FAILED = 18
DISK_FULL = 14031


def explain(error: PyMongoError, folder: Path | None = None) -> SiteError:
    """Say what a database's error means and what to do.

    Parameters
    ----------
    error
        From pymongo.
    folder
        The site's, if it is known.

    Returns
    -------
    SiteError
        To raise.
    """
    files = f"{folder}/my_launchpad.yaml and jobflow.yaml" if folder else "the site's files"
    text = without_passwords(str(error), {}).splitlines()[0][:200] if str(error) else ""
    code = error.code if isinstance(error, OperationFailure) else None
    if code == AUTHENTICATION_FAILED:
        return SiteError(
            f"the database refused user or password; correct username, password and authsource in "
            f"{files}, or DEFECT_MF_PASSWORD."
        )
    if code == UNAUTHORIZED:
        return SiteError(
            f"the database does not allow this user to do that ({text}); let an administrator run "
            "`defect-mf setup --admin-user NAME --create-worker-user`, or use a user who may."
        )
    if code == DISK_FULL:
        return SiteError(f"the database's disk is full ({text}); free space and repeat.")
    if isinstance(error, ConnectionFailure):
        return SiteError(
            f"the database cannot be reached ({text}); see that mongod runs and that host and port "
            f"in {files} are right."
        )
    if isinstance(error, DuplicateKeyError):
        return SiteError(
            f"the database holds the same entry already ({text}); look for the double entry."
        )
    if isinstance(error, ConfigurationError):
        return SiteError(f"the connection's options are wrong ({text}); correct {files}.")
    return SiteError(f"the database failed: {text}; see the log of mongod and repeat.")
