"""The gateways to AWS, against the local AWS: narrowed sessions, two kinds of error, one deadline."""

import asyncio
from datetime import timedelta

import msgspec
import pytest
from botocore.exceptions import ClientError

from broker.aws_access import RoleAccess
from broker.connections.role_documents import session_policy
from broker.errors import Refused, Unavailable
from broker.gateways import ses as ses_gateway
from broker.gateways.aws import Aws, Credentials, SessionEnded, translated
from broker.gateways.aws_http import SharedTlsSession, tls_context
from broker.gateways.ses import KINDS, SesGateway
from broker.gateways.sts import StsGateway
from tests.connections.aws import EXTERNAL_ID, Gateways, cloud, foreign_policy, gateways, owner_access
from tests.sandbox.aws import REGION
from tests.sandbox.aws import Aws as LocalAws

__all__ = ["cloud", "gateways"]


DENY_NOTHING = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'


def failed(code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "AWS's words"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Any"
    )


@pytest.mark.parametrize(
    ("code", "status"),
    [("Throttling", 400), ("TooManyRequestsException", 429), ("InternalFailure", 500), ("?", 503), ("Odd", 429)],
)
def test_what_passes_by_itself_is_unavailable(code: str, status: int) -> None:
    assert type(translated(failed(code, status))) is Unavailable


@pytest.mark.parametrize("code", ["AccessDenied", "NotFoundException", "LimitExceededException", "InvalidPolicy"])
def test_what_never_works_is_refused_in_the_words_of_aws(code: str) -> None:
    error = translated(failed(code, 400))

    assert isinstance(error, Refused)
    assert (code, "AWS's words") == (error.code, error.detail)


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId", "UnrecognizedClientException"])
def test_an_ended_session_is_told_apart(code: str) -> None:
    assert isinstance(translated(failed(code, 403)), SessionEnded)


def test_credentials_do_not_show_their_secret() -> None:
    assert repr(Credentials("AKIAEXAMPLE", "s3cret", "t0ken")) == "Credentials(AKIAEXAMPLE)"


async def test_a_role_is_assumed_with_its_external_id_only(gateways: Gateways, cloud: LocalAws) -> None:
    account = cloud.account()
    access = owner_access(account)

    assert account.id == await gateways.sts.assume(access, external_id=EXTERNAL_ID)
    for wrong in (None, "f" * 48):
        with pytest.raises(Refused) as refused:
            await gateways.sts.assume(access, external_id=wrong)
        assert refused.value.code == "AccessDenied"


async def test_policies_are_written_read_and_deleted(gateways: Gateways, cloud: LocalAws) -> None:
    account, delegate = cloud.account(), cloud.account()
    document = foreign_policy(account.verify("example.com"), delegate.id)
    access = owner_access(account)

    await gateways.ses.create_policy(access, "example.com", "delegation-broker-1-1", document)
    written = await gateways.ses.read_policies(access, "example.com")
    await gateways.ses.delete_policy(access, "example.com", "delegation-broker-1-1")
    await gateways.ses.delete_policy(access, "example.com", "delegation-broker-1-1")

    assert ["delegation-broker-1-1"] == list(written)
    assert await gateways.ses.read_policies(access, "example.com") == {}


async def test_refusals_of_ses_keep_their_code(gateways: Gateways, cloud: LocalAws) -> None:
    account = cloud.account()
    account.verify("example.com")
    access = owner_access(account)

    with pytest.raises(Refused) as no_identity:
        await gateways.ses.read_policies(access, "missing.example")
    with pytest.raises(Refused) as bad_policy:
        await gateways.ses.create_policy(access, "example.com", "delegation-broker-1-1", "{}")

    assert ("NotFoundException", "BadRequestException") == (no_identity.value.code, bad_policy.value.code)


async def test_a_session_that_writes_to_one_identity_cannot_touch_another(gateways: Gateways, cloud: LocalAws) -> None:
    """The role may; the session's policy takes it away. So a mistake in a name stays without effect."""
    account = cloud.account()
    arn = account.verify("example.com")
    account.verify("other.example")
    access = owner_access(account)
    credentials = await gateways.sts.session(access, session_policy(ses_gateway.WRITE, [arn]))

    with pytest.raises(Refused) as refused:
        await gateways.aws.call(
            "sesv2",
            "delete_email_identity_policy",
            region=REGION,
            account_id=account.id,
            credentials=credentials,
            EmailIdentity="other.example",
            PolicyName="theirs",
        )

    assert refused.value.code.startswith("AccessDenied")


def sessions_opened(cloud: LocalAws) -> int:
    return len([call for call in cloud.control("GET", "calls") if call["operation"] == "AssumeRole"])


async def test_a_session_is_opened_once_for_all_who_read(gateways: Gateways, cloud: LocalAws) -> None:
    account = cloud.account()
    account.verify("example.com")
    access = owner_access(account)
    before = sessions_opened(cloud)

    await asyncio.gather(*(gateways.ses.read_policies(access, "example.com") for _ in range(5)))

    assert before + 1 == sessions_opened(cloud)


class StaleOnce(StsGateway):
    """Its first session ended early, as when the role was deleted and made anew."""

    ended = False

    async def session(self, access: RoleAccess, policy: str) -> Credentials:
        if not self.ended:
            return Credentials("ASIAENDEDEARLY", "secret", "token")
        return await super().session(access, policy)

    def forget(self, access: RoleAccess) -> None:
        self.ended = True


async def test_a_session_that_ended_early_is_opened_anew(gateways: Gateways, cloud: LocalAws) -> None:
    """Nobody has to wait until it would have ended by itself."""
    account = cloud.account()
    account.verify("example.com")
    access = owner_access(account)
    sts = StaleOnce(gateways.aws, gateways.fetcher, gateways.settings)
    ses = SesGateway(gateways.aws, sts, session_policy, partition="aws")

    assert await ses.read_policies(access, "example.com") == {}


async def test_throttling_is_left_to_whoever_called(gateways: Gateways, cloud: LocalAws) -> None:
    """The SDK does not try again by itself: the caller knows what is urgent."""
    account = cloud.account()
    account.verify("example.com")
    access = owner_access(account)
    fault = {"operation": "GetEmailIdentityPolicies", "error": "throttle"}
    cloud.control("POST", "faults", fault)

    with pytest.raises(Unavailable):
        await gateways.ses.read_policies(access, "example.com")

    assert await gateways.ses.read_policies(access, "example.com") == {}


async def test_a_call_that_hangs_ends_at_its_deadline(gateways: Gateways, cloud: LocalAws) -> None:
    impatient = msgspec.structs.replace(gateways.settings, aws_call_timeout=timedelta(milliseconds=100))
    made = cloud.control("POST", "accounts", {"account_id": "999999999999"})
    aws = Aws(impatient, own=Credentials(made["access_key_id"], made["secret_access_key"]))
    await aws.warm(REGION)
    cloud.control("POST", "faults", {"operation": "GetCallerIdentity", "error": "timeout"})

    with pytest.raises(Unavailable, match="in time"):
        await aws.call("sts", "get_caller_identity", region=REGION, account_id="999999999999")

    cloud.control("DELETE", "faults")
    await aws.close()


async def test_an_aws_that_cannot_be_reached_is_unavailable(gateways: Gateways) -> None:
    nowhere = msgspec.structs.replace(gateways.settings, aws_endpoint_url="http://127.0.0.1:1")
    aws = Aws(nowhere, own=Credentials("AKIAEXAMPLE", "secret"))

    with pytest.raises(Unavailable, match="cannot be reached"):
        await aws.call("sts", "get_caller_identity", region=REGION, account_id="999999999999")

    await aws.close()


async def test_accounts_share_a_client_and_never_their_credentials(gateways: Gateways, cloud: LocalAws) -> None:
    """A hundred calls at once, each answered for the account whose credentials it brought."""
    accounts = [cloud.account() for _ in range(20)]
    sessions = [await gateways.sts.session(owner_access(each), DENY_NOTHING) for each in accounts]

    async def who(credentials: Credentials | None) -> str:
        answer = await gateways.aws.call(
            "sts", "get_caller_identity", region=REGION, account_id="999999999999", credentials=credentials
        )
        return str(answer["Account"])

    asked = [*sessions, None] * 5
    said = await asyncio.gather(*(who(each) for each in asked))

    own = await who(None)
    assert [*(each.id for each in accounts), own] * 5 == said


async def test_what_every_identity_needs_is_read(gateways: Gateways, cloud: LocalAws) -> None:
    account = cloud.account()
    account.verify("example.com")
    account.verify("Ann@example.org")
    access = owner_access(account)

    listed = {each["IdentityName"] for each in await gateways.ses.list_identities(access)}
    told = await gateways.ses.identity(access, "Ann@example.org")
    topics = await gateways.ses.notification_topics_of(access, ["example.com", "Ann@example.org"])

    assert {"example.com", "Ann@example.org"} == listed
    assert told["VerifiedForSendingStatus"] is True
    assert {name: dict.fromkeys(KINDS) for name in listed} == topics
    assert (await gateways.ses.account(access))["ProductionAccessEnabled"] is False


async def test_a_notification_topic_is_set_and_cleared(gateways: Gateways, cloud: LocalAws) -> None:
    account = cloud.account()
    account.verify("example.com")
    access = owner_access(account)
    topic = account.make_topic("bounces", publishers=account.id)

    await gateways.ses.set_notification_topic(access, "example.com", "bounce", topic)
    held = (await gateways.ses.notification_topics_of(access, ["example.com"]))["example.com"]
    await gateways.ses.set_notification_topic(access, "example.com", "bounce", None)

    assert {"bounce": topic, "complaint": None, "delivery": None} == held
    cleared = (await gateways.ses.notification_topics_of(access, ["example.com"]))["example.com"]
    assert cleared["bounce"] is None


async def test_clients_share_one_tls_context() -> None:
    """Making one takes tens of milliseconds, in which the whole process would stand still."""
    async with SharedTlsSession() as one, SharedTlsSession() as other:
        made = [session._create_connector(None) for session in (one, other)]  # noqa: SLF001 - where the SDK makes it

    assert made[0]._ssl is made[1]._ssl is tls_context(verify=True)  # noqa: SLF001
    for connector in made:
        await connector.close()
