"""One HTTP server, spoken to over one connection that is kept alive.

The standard library alone: `broker listen` runs on a developer's machine, where nothing else may be installed.
"""

import http.client
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from broker.local.child import StartError

_CLOSED = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


class NotThere(Exception):
    """Nothing listens at the address; the text says how that was found out. Nothing was sent."""


class NoAnswer(Exception):
    """The request was sent, or a part of it, and no answer came."""


class Reply(msgspec.Struct, frozen=True):
    """An answer. Names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Server:
    """The server of a URL. Proxies are not used."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        """``timeout_s`` is for connecting and for each read.

        Raises:
            StartError: the URL is not one of http or https.
        """
        parts = urlsplit(url)
        try:
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise StartError(f"{url} is no URL: {error}.") from error
        if parts.scheme not in {"http", "https"} or not host:
            raise StartError(f"{url} is not a URL that begins with http:// or https:// and names a host.")
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self.path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        self._open = False

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
        """Sends a request and reads the whole answer, redirects not followed.

        Raises:
            NotThere: nothing was sent. It may come up yet.
            NoAnswer: it was sent, and the connection broke or the time was over.
            StartError: its certificate is not to be trusted.
        """
        used_before = self._open
        if not used_before:
            self._connect()
        try:
            return self._exchange(method, path, headers, body)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            # A server may close what is idle at any moment: what is sent meanwhile gets lost unread.
            if used_before and isinstance(error, _CLOSED):
                return self.ask(method, path, headers, body)
            raise NoAnswer(_words(error)) from error

    def close(self) -> None:
        """Close the connection; the next request opens it again."""
        self._open = False
        self._connection.close()

    def _connect(self) -> None:
        try:
            self._connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise StartError(f"The certificate of {self.url} is not to be trusted: {error.verify_message}.") from error
        except (OSError, UnicodeError) as error:
            self.close()
            raise NotThere(_words(error)) from error
        self._open = True

    def _exchange(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        self._connection.request(method, path, body, dict(headers))
        answer = self._connection.getresponse()
        given = {name.lower(): value for name, value in answer.getheaders()}
        content = answer.read()
        if answer.will_close:
            self.close()
        return Reply(answer.status, given, content)


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
