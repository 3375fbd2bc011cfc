"""SNS topics in tenants' accounts, under their roles."""

from collections.abc import Mapping, Sequence
from typing import Any

from broker.aws_access import RoleAccess
from broker.errors import Refused
from broker.gateways.as_role import AsRole, SessionPolicy
from broker.gateways.aws import Aws
from broker.gateways.sts import StsGateway

READ = ("GetTopicAttributes", "ListTagsForResource")
WRITE = ("CreateTopic", "SetTopicAttributes", "DeleteTopic")


class TenantTopics:
    """Every call acts as the tenant's role, under a session that can touch the one topic only."""

    def __init__(self, aws: Aws, sts: StsGateway, session_policy: SessionPolicy) -> None:
        self._role = AsRole(aws, sts, session_policy, service="sns")

    async def attributes(self, access: RoleAccess, topic_arn: str) -> dict[str, str] | None:
        """GetTopicAttributes' answer; None when there is no such topic."""
        try:
            answer = await self._call(access, "get_topic_attributes", topic_arn, READ, TopicArn=topic_arn)
        except Refused as error:
            if error.code not in {"NotFound", "NotFoundException"}:
                raise
            return None
        return dict(answer.get("Attributes", {}))

    async def tags(self, access: RoleAccess, topic_arn: str) -> dict[str, str]:
        """The topic's tags."""
        answer = await self._call(access, "list_tags_for_resource", topic_arn, READ, ResourceArn=topic_arn)
        return {each["Key"]: each["Value"] for each in answer.get("Tags", [])}

    async def create(
        self, access: RoleAccess, topic_arn: str, *, attributes: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """Makes the topic with these attributes and tags; one with others is refused by SNS (CreateTopic)."""
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        name = topic_arn.rpartition(":")[2]
        await self._call(access, "create_topic", topic_arn, WRITE, Name=name, Attributes=dict(attributes), Tags=listed)

    async def set_attribute(self, access: RoleAccess, topic_arn: str, name: str, value: str) -> None:
        """Sets one attribute, such as `Policy`."""
        await self._call(
            access,
            "set_topic_attributes",
            topic_arn,
            WRITE,
            TopicArn=topic_arn,
            AttributeName=name,
            AttributeValue=value,
        )

    async def delete(self, access: RoleAccess, topic_arn: str) -> None:
        """Deletes the topic with its subscriptions; deleting one that is not there succeeds (SNS, DeleteTopic)."""
        await self._call(access, "delete_topic", topic_arn, WRITE, TopicArn=topic_arn)

    async def _call(
        self, access: RoleAccess, operation: str, topic_arn: str, allowed: Sequence[str], **parameters: Any
    ) -> dict[str, Any]:
        return await self._role.call(access, operation, allowed=allowed, resources=[topic_arn], **parameters)
