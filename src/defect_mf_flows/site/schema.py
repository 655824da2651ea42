"""The version of the documents in a site's databases."""

from __future__ import annotations

from typing import Any

from fireworks import LaunchPad
from pymongo.database import Database

from defect_mf_flows.errors import SiteError, VersionError
from defect_mf_flows.schemas.base import SCHEMA_VERSION

#: Collection, in every database of a site, with what belongs to the database itself.
OWN = "defect_mf"
SCHEMA = "schema"


def schema_version(database: Database[dict[str, Any]]) -> int | None:
    """Version of the documents in a database, None where none was ever written.

    Parameters
    ----------
    database
        Of the LaunchPad or the job store.
    """
    found = database[OWN].find_one({"_id": SCHEMA}) or {}
    version = found.get("version")
    return version if isinstance(version, int) else None


def write_schema_version(database: Database[dict[str, Any]]) -> bool:
    """Note the version of the documents that this package writes.

    Parameters
    ----------
    database
        Of the LaunchPad or the job store.

    Returns
    -------
    bool
        Whether it was another one before.

    Raises
    ------
    VersionError
        If the database holds documents of a newer version.
    """
    found = schema_version(database)
    _refuse_newer(found, database.name)
    if found == SCHEMA_VERSION:
        return False
    # $max: of two packages that do this at the same time the newer one wins.
    database[OWN].update_one({"_id": SCHEMA}, {"$max": {"version": SCHEMA_VERSION}}, upsert=True)
    return True


def refuse_other_schema(launchpad: LaunchPad) -> None:
    """Refuse a database whose documents this package does not write; two small queries.

    Parameters
    ----------
    launchpad
        Connected.

    Raises
    ------
    SiteError
        If the database was never set up.
    VersionError
        If its documents are newer or older.
    """
    found = schema_version(launchpad.db)
    _refuse_newer(found, launchpad.name)
    if found is not None and found < SCHEMA_VERSION:
        raise VersionError(
            f"database {launchpad.name} holds documents of schema version {found}, this package "
            f"writes {SCHEMA_VERSION}; run `defect-mf setup` once with this package."
        )
    if launchpad.fw_id_assigner.find_one({}, {"_id": 1}) is None:
        raise SiteError(
            f"database {launchpad.name} was never set up; run `defect-mf setup --site FOLDER`."
        )


def _refuse_newer(found: int | None, name: str) -> None:
    if found is not None and found > SCHEMA_VERSION:
        raise VersionError(
            f"database {name} holds documents of schema version {found}, this package knows only "
            f"{SCHEMA_VERSION}; install a newer defect-mf-flows."
        )
