"""Passwords: where they may come from, and that they go nowhere else."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import yaml
from fireworks import LaunchPad

from defect_mf_flows.errors import SiteError

PASSWORD_VARIABLE = "DEFECT_MF_PASSWORD"
ADMIN_PASSWORD_VARIABLE = "DEFECT_MF_ADMIN_PASSWORD"

OTHERS = stat.S_IRWXG | stat.S_IRWXO
_IN_ADDRESS = re.compile(r"://[^/@\s]*:([^/@\s]+)@")


class WithoutPassword(LaunchPad):
    """Makes any LaunchPad keep its password to itself when it is printed, logged or stored."""

    def to_dict(self) -> dict[str, Any]:
        """Everything but the password and the client's options, which may hold one."""
        return {**super().to_dict(), "password": None, "mongoclient_kwargs": {}}


def read_password(path: Path) -> str:
    """Read a password from a file that only its owner may read.

    Parameters
    ----------
    path
        File with the password on its only line.

    Returns
    -------
    str
        The password, without the line's end.

    Raises
    ------
    SiteError
        If it is missing, others may read it, or it does not hold exactly one line.
    """
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & OTHERS:
                raise SiteError(f"{path} holds a password and others may read it; chmod 600 it.")
            lines = file.read(4096).splitlines()
    except OSError as error:
        raise SiteError(f"{path}: not readable: {error.strerror}; correct the path.") from None
    except ValueError:
        raise SiteError(f"{path}: not a text file; write the password on one line.") from None
    if len(lines) != 1 or not lines[0].strip():
        raise SiteError(f"{path}: must hold the password on one line and nothing else.")
    return lines[0]


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one of a site's files with a loader that builds nothing but plain values.

    Parameters
    ----------
    path
        YAML file.

    Returns
    -------
    dict
        Its content.

    Raises
    ------
    SiteError
        If it is missing, unreadable, no mapping, or holds a password that others may read.
    """
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = yaml.safe_load(file)
    except OSError as error:
        raise SiteError(
            f"{path}: not readable: {error.strerror}; `defect-mf init` writes a site's files."
        ) from None
    except yaml.MarkedYAMLError as error:
        # PyYAML's own message quotes the line, which may be the one with the password.
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SiteError(f"{path}: not readable as YAML{line}; correct or replace it.") from None
    except Exception as error:  # odd dates, tags and bytes raise ValueError and worse
        raise SiteError(
            f"{path}: not readable as YAML ({type(error).__name__}); correct or replace it."
        ) from None
    if not isinstance(content, dict):
        raise SiteError(f"{path}: must be a mapping; `defect-mf init` writes such a file.")
    if _passwords(content) and mode & OTHERS:
        raise SiteError(f"{path} holds a password and others may read it; chmod 600 {path}.")
    return content


def without_passwords(text: str, content: Any) -> str:
    """Take every password of a file's content out of a message.

    Parameters
    ----------
    text
        A message from another library.
    content
        What it may quote.

    Returns
    -------
    str
        The message with ``***`` in their place.
    """
    for password in sorted(_passwords(content), key=len, reverse=True):
        text = text.replace(password, "***")
    return _IN_ADDRESS.sub("://***@", text)


def _passwords(content: Any, key: str = "") -> set[str]:
    """Every password in a nested mapping, those in addresses included."""
    if isinstance(content, dict):
        return {p for k, v in content.items() for p in _passwords(v, str(k))}
    if isinstance(content, list):
        return {p for item in content for p in _passwords(item, key)}
    if content is None or isinstance(content, bool):
        return set()
    text = str(content)
    if "password" in key.lower() and text:
        return {text}
    return set(_IN_ADDRESS.findall(text))
