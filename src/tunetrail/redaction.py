"""Text that may hold an address with a password in it -> the same text without the password.

For all that is printed, logged or recorded. Where a password and what follows it cannot be told apart, more is left out
rather than less, except after a port: `http://host:8080/data@v2/rows`. Takes time linear in the text. Not covered: a
password that stands nowhere near an address.
"""

import re
import urllib.parse

HIDDEN = "..."  # what stands in its place; in a text that has it nothing is hidden twice
_RUN = re.compile(r'[^\s",]+')  # what one address of a text may hold; JSON writes its slashes as \/
# A database's address has a user before each @, so that digits and a slash are a password and no port.
_START = re.compile(
    r"(?P<database>\b(?:postgres|mysql|mariadb|mssql|oracle|redis|mongodb|amqp)[\w+]{0,30})?:(?:\\{0,2}/){2}"
)
_PORT = re.compile(r"(?:\[[\da-f:.]+\](?::\d+)?|[^/:@?#\\]*:\d+)(?=\\{0,2}/|$)", re.IGNORECASE)
_PASSWORD = re.compile(r"[^/:@?#]*:")
_USER = re.compile(r"[^/?#]*@")  # before the path: hf://datasets/NAME@REVISION has no user in it
_ENCODED = re.compile(r'(?<![a-z+])[a-z+]{0,20}%3a%2f%2f[^\s",&]*', re.IGNORECASE)
# Hidden before, also where a message goes on after it: `?password=...: refused`.
_ALREADY = r"(?!\.\.\.(?:[\s&;#'\"]|[:;,.)\]}>]+(?:\s|$)|$))"
_KEY = (
    r"(?:[^\s=&;#?]*[-_.])?(?:access|account|api|auth|bearer|client|id|private|refresh|secret|session|shared|ssl|user)?"
    r"(?:password|passwd|passphrase|pwd|pass|token|sig|signature|secret|key|credentials?|creds?|auth|sas|odbc_connect)"
)


def _query(character: str) -> re.Pattern[str]:
    """The secrets of a query, `?password=`; their values, of such characters, may hold what should have been escaped."""
    return re.compile(
        rf"([?&#]{_KEY}=){_ALREADY}(?:(?!#{_KEY}=){character})+"
        # Of a connection string: `;PWD={a;b};`
        r"|(;[\w -]{0,40}?(?:pwd|password|passwd|secret|accountkey|accesskey|accesssignature)\s{0,3}=)"
        rf"{_ALREADY}(?:\{{[^}}]{{0,300}}\}}|(?!;){character})+",
        re.IGNORECASE,
    )


_OF_A_TEXT, _OF_AN_ADDRESS = _query(r"[^\s&\"]"), _query(r"[^&]")


def redact(text: str) -> str:
    """The text without the user, password and query secrets (`?password=`, `&X-Amz-Signature=`) of each address in it."""
    text = _RUN.sub(lambda run: _without_user(run[0]), _ENCODED.sub(_decoded, text))
    return _OF_A_TEXT.sub(rf"\1\2{HIDDEN}", text)


def redact_address(address: str) -> str:
    """As `redact`, of a text that is one address and nothing else: white space, quotes and commas belong to it too."""
    if "://" not in address:  # its scheme was left out
        address = re.sub(r"^[^/:@]+:[^/].*@", "", address, flags=re.DOTALL)
    return _OF_AN_ADDRESS.sub(rf"\1\2{HIDDEN}", _without_user(_ENCODED.sub(_decoded, address)))


def is_ambiguous(address: str) -> bool:
    """Whether a server's address has an @ after its host, as where a / in a password was not written as %2F: then neither
    its host nor its password is known."""
    return bool(re.match(r"https?://[^/?#]*[/?#].*@", address, re.DOTALL)) and ":" in address[6 : address.rindex("@")]


def _without_user(run: str) -> str:
    """The text, which has no separators, without what stands before the @ of its addresses."""
    last, kept, at = run.rfind("@"), "", 0
    for start in _START.finditer(run):
        if not at <= start.end() <= last:
            continue
        port = not start["database"] and _PORT.match(run, start.end())
        if _PASSWORD.match(run, start.end()) and not port:
            end = last + 1
        elif user := _USER.match(run, start.end()):
            end = user.end()
        else:
            continue
        kept, at = kept + run[at : start.end()], end
    return kept + run[at:]


def _decoded(encoded: re.Match[str]) -> str:
    """An address that is written with %3A and %2F, as the value of a query; as it was where it holds no secret."""
    plain = urllib.parse.unquote(encoded[0])
    hidden = redact_address(plain)
    return encoded[0] if hidden == plain else urllib.parse.quote(hidden, safe="'")


def host(url: str) -> str:
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
