"""Removes passwords from the addresses in a text: for all that is printed, logged or recorded.

If a password cannot be told from what follows it, more is removed rather than less, except after a port:
`http://host:8080/data@v2/rows`. Takes time linear in the text. Passwords outside of addresses
are not found: `config.secret` refuses those in a config.
"""

import re
import urllib.parse

HIDDEN = "..."  # in its place; redacting a text again changes nothing
_CHUNK = re.compile(r'[^\s",]+')  # the characters of one address in a text; JSON may write its slashes as \/
# In a database's address a user precedes each @, so digits and a slash before it are a password, not a port.
_START = re.compile(
    r"(?P<database>\b(?:postgres|mysql|mariadb|mssql|oracle|redis|mongodb|amqp)[\w+]{0,30})?:(?:\\{0,2}/){2}"
)
_PORT = re.compile(r"(?:\[[\da-f:.]+\](?::\d+)?|[^/:@?#\\]*:\d+)(?=\\{0,2}/|$)", re.IGNORECASE)
_PASSWORD = re.compile(r"[^/:@?#]*:")
_USER = re.compile(r"[^/?#]*@")  # before the path: hf://datasets/NAME@REVISION has no user in it
_ENCODED = re.compile(r'(?<![a-z+])[a-z+]{0,20}%3a%2f%2f[^\s",&]*', re.IGNORECASE)
# Not a value that is hidden already, even if a message continues after it: `?password=...: refused`.
_NOT_HIDDEN_YET = r"(?!\.\.\.(?:[\s&;#'\"]|[:;,.)\]}>]+(?:\s|$)|$))"
_KEY = (
    r"(?:[^\s=&;#?]*[-_.])?(?:access|account|api|auth|bearer|client|id|private|refresh|secret|session|shared|ssl|user)?"
    r"(?:password|passwd|passphrase|pwd|pass|token|sig|signature|secret|key|credentials?|creds?|auth|sas|odbc_connect)"
)


def _secret_pattern(character: str) -> re.Pattern[str]:
    """Return the pattern of a query's secrets, `?password=`, whose values consist of `character`, escaped or not."""
    return re.compile(
        rf"([?&#]{_KEY}=){_NOT_HIDDEN_YET}(?:(?!#{_KEY}=){character})+"
        # Of a connection string: `;PWD={a;b};`
        r"|(;[\w -]{0,40}?(?:pwd|password|passwd|secret|accountkey|accesskey|accesssignature)\s{0,3}=)"
        rf"{_NOT_HIDDEN_YET}(?:\{{[^}}]{{0,300}}\}}|(?!;){character})+",
        re.IGNORECASE,
    )


_SECRET_IN_TEXT, _SECRET_IN_ADDRESS = _secret_pattern(r"[^\s&\"]"), _secret_pattern(r"[^&]")


def redact(text: str) -> str:
    """Return the text without the user, password and query secrets (`?password=`, `&X-Amz-Signature=`) of its addresses."""
    text = _CHUNK.sub(lambda chunk: _without_user(chunk[0]), _ENCODED.sub(_redact_encoded, text))
    return _SECRET_IN_TEXT.sub(rf"\1\2{HIDDEN}", text)


def redact_address(address: str) -> str:
    """Redact a text that is one address, to which white space, quotes and commas belong too."""
    if "://" not in address:  # its scheme was left out
        address = re.sub(r"^[^/:@]+:[^/].*@", "", address, flags=re.DOTALL)
    return _SECRET_IN_ADDRESS.sub(rf"\1\2{HIDDEN}", _without_user(_ENCODED.sub(_redact_encoded, address)))


def is_ambiguous(address: str) -> bool:
    """Return whether a server's address has an @ after its host, for example because a / in a password is not written as
    %2F: then neither its host nor its password is known."""
    return bool(re.match(r"https?://[^/?#]*[/?#].*@", address, re.DOTALL)) and ":" in address[6 : address.rindex("@")]


def _without_user(chunk: str) -> str:
    """Return the chunk, a text without separators, without what precedes the @ of its addresses."""
    last = chunk.rfind("@")
    result = ""
    position = 0
    for start in _START.finditer(chunk):
        if not position <= start.end() <= last:
            continue
        port = not start["database"] and _PORT.match(chunk, start.end())
        if _PASSWORD.match(chunk, start.end()) and not port:
            end = last + 1
        elif user := _USER.match(chunk, start.end()):
            end = user.end()
        else:
            continue
        result += chunk[position : start.end()]
        position = end
    return result + chunk[position:]


def _redact_encoded(encoded: re.Match[str]) -> str:
    """Redact an address that is written with %3A and %2F, as the value of a query."""
    plain = urllib.parse.unquote(encoded[0])
    hidden = redact_address(plain)
    return encoded[0] if hidden == plain else urllib.parse.quote(hidden, safe="'")


def host(url: str) -> str:
    """Return the scheme, host and port of an address, or a folder as it is: all else may be a secret.

    Return "..." if the address is not well formed, such as `https://me:pass/word@host`.
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
