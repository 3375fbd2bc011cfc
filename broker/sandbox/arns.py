"""Amazon resource names of the few kinds that the local AWS deals in."""

import msgspec

from broker.sandbox.errors import AwsError

PARTITIONS = ("aws", "aws-cn", "aws-us-gov")


class Arn(msgspec.Struct, frozen=True):
    """The six parts of an ARN; `resource` is everything after the fifth colon."""

    partition: str
    service: str
    region: str
    account_id: str
    resource: str

    def __str__(self) -> str:
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account_id}:{self.resource}"


def parse(text: str) -> Arn:
    """Raises AwsError InvalidParameterValue when the text is no ARN."""
    parts = text.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or parts[1] not in PARTITIONS:
        raise AwsError("InvalidParameterValue", f"Invalid ARN: {text}")
    return Arn(*parts[1:])


def partition_of(region: str) -> str:
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"


def identity_arn(account_id: str, region: str, identity: str) -> str:
    return f"arn:{partition_of(region)}:ses:{region}:{account_id}:identity/{identity}"


def configuration_set_arn(account_id: str, region: str, name: str) -> str:
    return f"arn:{partition_of(region)}:ses:{region}:{account_id}:configuration-set/{name}"
