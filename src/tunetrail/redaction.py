"""Text that may hold an address with a password in it -> the same text without the password.

For all that is printed, logged or recorded. Where a password and what follows it cannot be told apart, more is left out
rather than less. Not covered: a password that stands nowhere near an address.
"""

import re
import urllib.parse

HIDDEN = "..."  # what stands in its place; in a text that has it nothing is hidden twice
# `user:password@` of an address, also where the password holds an @ or a slash that should have been written %40 or %2F:
# all up to the last @. Without a colon, up to the last @ before the path: hf://datasets/NAME@REVISION has no user in it.
_USER = re.compile(r"(?<=://)(?:[^\s/:@?#]*:\S*@|[^\s/?#]*@)")
_NAMES = r"pass|pwd|secret|token|sig|cred|key|auth|sas|odbc_connect"
_QUERY = re.compile(rf"([?&;#][^\s=&;#?]*(?:{_NAMES})[^\s=&;#?]*=)(?!\.\.\.)[^\s&;#'\"<>]+", re.IGNORECASE)


def shown(text: str) -> str:
    """The text without the user, password and query secrets (`?password=`, `&X-Amz-Signature=`) of each address in it."""
    return _QUERY.sub(rf"\1{HIDDEN}", _USER.sub("", text))


def address(url: str) -> str:
    """Of an address its scheme, host and port, or a folder. Users, passwords, paths and queries may be secrets.

    Of one that is not well formed, such as `https://me:pass/word@host`, these cannot be told apart: "...".
    """
    scheme, _, rest = url.rpartition("://")
    if not scheme:
        return HIDDEN if "@" in rest else rest
    try:
        parts = urllib.parse.urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return HIDDEN
    if "@" in parts.path + parts.query + parts.fragment:
        return HIDDEN
    return f"{parts.scheme}://{parts.hostname or ''}{port}"
