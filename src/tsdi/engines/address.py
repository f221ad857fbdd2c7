"""The base URL and key of an API, and texts with the key and passwords hidden.

Keys, passwords and what stands behind the question mark of a URL are sent to the server and go
nowhere else: to no file, and into no message.
"""

import os
import re
from base64 import b64encode
from ipaddress import ip_address
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from tsdi.errors import UsageError

KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
DEFAULT_URL = "https://api.openai.com/v1"
_NO_KEY = "none"  # what a local server is sent that asks for no key
_HIDDEN = "***"
_LONG = 8  # characters: shorter words come up in answers by themselves


class Address:
    """The base URL of an API, with its key from the environment.

    Args:
        url: Such as "http://localhost:8000/v1"; None takes OPENAI_BASE_URL, else OpenAI.

    Attributes:
        public: The URL without credentials and query, for provenance and messages.
        base: The URL without query, as requests need it.
        query: The URL's query, behind its question mark.
        key: The key.

    Raises:
        UsageError: If the URL is none, or the key is missing or cannot be one.
    """

    def __init__(self, url: str | None) -> None:
        given = url or os.environ.get(URL) or DEFAULT_URL
        self.public = public_url(given)
        parts = urlsplit(given)
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.base = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        self.key = _read_key(parts.hostname or "", self.public)
        name, password = unquote(parts.username or ""), unquote(parts.password or "")
        sent = b64encode(f"{name}:{password}".encode()).decode() if password else ""
        key = "" if self.key == _NO_KEY else self.key
        secrets = {key, password, parts.password or "", sent, *self.query.values()} - {""}
        self._secrets = sorted(secrets, key=len, reverse=True)  # one may hold another

    def hide(self, text: str, shortest: int = 1) -> str:
        """A text without keys and passwords.

        Secrets of fewer than `shortest` characters stay, as they may be words of their own right.
        """
        for secret in self._secrets:
            if len(secret) >= shortest:
                text = text.replace(secret, _HIDDEN)
        return text

    def hide_in_reply(self, text: str) -> str:
        """A model's words without keys and long passwords."""
        return self.hide(text, _LONG)


def public_url(url: str) -> str:
    """A base URL without credentials and query.

    Raises:
        UsageError: If it is none.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise UsageError("The API's URL is none.", f"Such as {DEFAULT_URL}.")
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}".rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, and nothing else can reach it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_key(host: str, public: str) -> str:
    """The API's key; a server on this machine may have none."""
    key = os.environ.get(KEY, "").strip()
    if not key and is_loopback(host):
        return _NO_KEY
    if not key:
        raise UsageError(
            f"{public} needs a key, and {KEY} is not set.",
            f"Set {KEY}, to any word if the server asks for no key.",
        )
    if not re.fullmatch(r"[!-~]+", key):
        raise UsageError(f"{KEY} holds what no key can: spaces or letters beyond ASCII.")
    return key
