"""The SDK's HTTP session with one TLS context for all clients.

Each client makes a context of its own and reads all certificates of the system into it: 40 ms in which the whole
process stands still, at the first call with every new session of a role, which is when somebody revokes.
"""

import ssl
from functools import cache

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession
from botocore.httpsession import create_urllib3_context, get_cert_path


class SharedTlsSession(AIOHTTPSession):
    """For `AioConfig(http_session_cls=…)`; proxies and client certificates go the SDK's own way."""

    def _create_connector(self, proxy_url: str | None) -> aiohttp.TCPConnector:
        if proxy_url or self._cert_file or not self._verify:
            connector: aiohttp.TCPConnector = super()._create_connector(proxy_url)
            return connector
        return aiohttp.TCPConnector(
            limit=self._max_pool_connections, ssl=tls_context(verify=self._verify), **self._connector_args
        )


@cache
def tls_context(*, verify: bool | str) -> ssl.SSLContext:
    """The context that the SDK would make; `verify` may be the path of a bundle (AWS_CA_BUNDLE)."""
    context: ssl.SSLContext = create_urllib3_context()
    context.load_verify_locations(get_cert_path(verify))
    return context
