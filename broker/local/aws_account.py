"""One AWS account of a customer, reached by boto3 with that customer's own credentials."""

from typing import Any

import boto3
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from broker.local.aws import REGION, Keys

_SESSION = boto3.Session()  # one for all accounts: it reads the models of the services, a tenth of a second each, once


class AwsAccount:
    """An account of the local AWS."""

    def __init__(self, url: str, account_id: str, keys: Keys) -> None:
        """``url`` is the local AWS."""
        self.account_id = account_id
        self.arn = keys.arn
        self.url = url
        self._keys = keys
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """boto3's client of a service."""
        if service not in self._clients:
            # SES answers some calls once per second only (Developer Guide, quotas): a customer's SDK tries again.
            config = Config(retries={"total_max_attempts": 6, "mode": "standard"}, proxies={})
            self._clients[service] = _SESSION.client(
                service,
                region_name=REGION,
                endpoint_url=self.url,
                aws_access_key_id=self._keys.access_key_id,
                aws_secret_access_key=self._keys.secret_access_key,
                config=config,
            )
        return self._clients[service]

    def presign(self, url: str, region: str, headers: dict[str, str]) -> str:
        """Sign a GET of STS, with these headers, in its query string."""
        request = AWSRequest("GET", url, headers=headers)
        SigV4QueryAuth(
            Credentials(self._keys.access_key_id, self._keys.secret_access_key), "sts", region, expires=60
        ).add_auth(request)
        return str(request.url)

    def close(self) -> None:
        """Close the clients' connections."""
        for client in self._clients.values():
            client.close()
