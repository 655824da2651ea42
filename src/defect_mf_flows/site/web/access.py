"""Who may see the web UI."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from defect_mf_flows.errors import SiteError

PASSWORD_VARIABLE = "DEFECT_MF_WEB_PASSWORD"
SHORTEST_PASSWORD = 8


@dataclass(frozen=True)
class Access:
    """A user name and a password, which every request must carry.

    Parameters
    ----------
    user, password
        As the browser asks for them.
    """

    user: str
    password: str = field(repr=False)

    def admits(self, user: str | None, password: str | None) -> bool:
        """Compare in a time that does not depend on how much of either is right.

        Parameters
        ----------
        user, password
            What a request carries.
        """
        right_user = hmac.compare_digest(_digest(self.user), _digest(user or ""))
        right_password = hmac.compare_digest(_digest(self.password), _digest(password or ""))
        return right_user and right_password


def read_access(host: str, user: str | None, password_file: Path | None) -> Access | None:
    """Read who may see the UI; nobody need ask on a loopback address without a user name.

    Parameters
    ----------
    host
        Address to listen on.
    user
        User name, or None.
    password_file
        File of mode 600 with the password; None: the variable DEFECT_MF_WEB_PASSWORD.

    Returns
    -------
    Access or None
        None: no password is asked for.

    Raises
    ------
    SiteError
        If only one of user name and password is given, if the address can be reached from other
        machines and both are missing, or if others may read the file.
    """
    password = _read(password_file) if password_file else os.environ.get(PASSWORD_VARIABLE)
    if not user and not password:
        if is_loopback(host):
            return None
        raise SiteError(
            f"--host {host} can be reached from other machines and no password is set; give "
            f"--user and {PASSWORD_VARIABLE} (or --password-file), or leave --host out and reach "
            "the UI through an ssh tunnel."
        )
    if not user or not password:
        missing, given = ("a password", "user name") if user else ("a user name", "password")
        raise SiteError(
            f"web UI: a {given} but not {missing}; give both --user and {PASSWORD_VARIABLE} "
            "(or --password-file), or neither."
        )
    if len(password) < SHORTEST_PASSWORD:
        raise SiteError(
            f"web UI: the password has fewer than {SHORTEST_PASSWORD} characters; take a longer "
            "one."
        )
    return Access(user, password)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name other than localhost may be anything."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> str:
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SiteError(f"{path} holds a password and others may use it; chmod 600 {path}.")
        password = path.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SiteError(f"--password-file {path}: not readable: {error}; correct it.") from None
    if not password:
        raise SiteError(f"--password-file {path} is empty; write the password into it.")
    return password


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
