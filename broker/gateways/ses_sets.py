"""SES configuration sets and their event destinations in tenants' accounts."""

from collections.abc import Mapping, Sequence
from typing import Any

from broker.aws_access import RoleAccess
from broker.errors import Refused
from broker.gateways.as_role import AsRole, SessionPolicy
from broker.gateways.aws import Aws
from broker.gateways.sts import StsGateway

READ = ("GetConfigurationSet", "GetConfigurationSetEventDestinations")
WRITE = (
    "CreateConfigurationSet",
    "PutConfigurationSetDeliveryOptions",
    "DeleteConfigurationSet",
    "CreateConfigurationSetEventDestination",
    "UpdateConfigurationSetEventDestination",
    "DeleteConfigurationSetEventDestination",
)
"""Each call is done under a session that can touch its one configuration set only."""


class SesSets:
    """Every call acts as the tenant's role. `name` is always that of a configuration set."""

    def __init__(self, aws: Aws, sts: StsGateway, session_policy: SessionPolicy, *, partition: str) -> None:
        self._role = AsRole(aws, sts, session_policy, service="sesv2")
        self._partition = partition

    async def find(self, access: RoleAccess, name: str) -> dict[str, Any] | None:
        """GetConfigurationSet's answer (`Tags`, `DeliveryOptions` …); None when there is no such set."""
        try:
            return await self._call(access, "get_configuration_set", name, READ)
        except Refused as error:
            if error.code != "NotFoundException":
                raise
            return None

    async def create(
        self, access: RoleAccess, name: str, *, tags: Mapping[str, str], tls_policy: str | None = None
    ) -> None:
        """Makes the set. `Refused` AlreadyExistsException, LimitExceededException. `tls_policy`: REQUIRE, OPTIONAL."""
        given: dict[str, Any] = {"DeliveryOptions": {"TlsPolicy": tls_policy}} if tls_policy else {}
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        await self._call(access, "create_configuration_set", name, WRITE, Tags=listed, **given)

    async def set_tls_policy(self, access: RoleAccess, name: str, tls_policy: str) -> None:
        """REQUIRE: mail of this set is delivered over TLS only (SES API v2, PutConfigurationSetDeliveryOptions)."""
        await self._call(access, "put_configuration_set_delivery_options", name, WRITE, TlsPolicy=tls_policy)

    async def delete(self, access: RoleAccess, name: str) -> None:
        """Deletes the set with its destinations; one that is not there is deleted already."""
        await self._gone(access, "delete_configuration_set", name)

    async def destinations(self, access: RoleAccess, name: str) -> list[dict[str, Any]]:
        """All event destinations as SES shows them (SES API v2, EventDestination)."""
        answer = await self._call(access, "get_configuration_set_event_destinations", name, READ)
        return list(answer.get("EventDestinations", []))

    async def create_destination(
        self, access: RoleAccess, name: str, destination: str, definition: Mapping[str, Any]
    ) -> None:
        """`definition` is SES's EventDestinationDefinition. `Refused` AlreadyExistsException, LimitExceededException,
        BadRequestException."""
        await self._define(access, "create", name, destination, definition)

    async def update_destination(
        self, access: RoleAccess, name: str, destination: str, definition: Mapping[str, Any]
    ) -> None:
        """Replaces the definition. `Refused` NotFoundException, BadRequestException."""
        await self._define(access, "update", name, destination, definition)

    async def delete_destination(self, access: RoleAccess, name: str, destination: str) -> None:
        """Deletes it; one that is not there is deleted already."""
        await self._gone(access, "delete_configuration_set_event_destination", name, EventDestinationName=destination)

    async def _define(
        self, access: RoleAccess, verb: str, name: str, destination: str, definition: Mapping[str, Any]
    ) -> None:
        role = definition.get("KinesisFirehoseDestination", {}).get("IamRoleArn")
        await self._call(
            access,
            f"{verb}_configuration_set_event_destination",
            name,
            WRITE,
            passes=[role] if role else [],
            EventDestinationName=destination,
            EventDestination=dict(definition),
        )

    async def _gone(self, access: RoleAccess, operation: str, name: str, **parameters: Any) -> None:
        try:
            await self._call(access, operation, name, WRITE, **parameters)
        except Refused as error:
            if error.code != "NotFoundException":
                raise

    async def _call(
        self,
        access: RoleAccess,
        operation: str,
        name: str,
        allowed: Sequence[str],
        *,
        passes: Sequence[str] = (),
        **parameters: Any,
    ) -> dict[str, Any]:
        arn = f"arn:{self._partition}:ses:{access.region}:{access.account_id}:configuration-set/{name}"
        return await self._role.call(
            access, operation, allowed=allowed, resources=[arn, *passes], ConfigurationSetName=name, **parameters
        )
