"""Finds actions that are too many, or that do not do what sending needs."""

from collections.abc import Iterator

from broker.policies.evaluate import names_action
from broker.policies.findings import Code, Finding, Subject, found, is_negated
from broker.policies.terms import ACTION_TO_IAM
from broker.policies.wording import listed

SENDING = tuple(name for names in ACTION_TO_IAM.values() for name in names)
OTHER_SENDING = ("ses:SendBounce", "ses:SendCustomVerificationEmail")
# The actions of an identity's policy that are not about sending; their principals must belong to the owner's account
# (SES Developer Guide, identity-authorization-policies).
MANAGEMENT = tuple(
    f"ses:{name}"
    for name in (
        "BatchGetMetricData",
        "CancelExportJob",
        "CreateDeliverabilityTestReport",
        "CreateEmailIdentityPolicy",
        "CreateExportJob",
        "DeleteEmailIdentity",
        "DeleteEmailIdentityPolicy",
        "GetDomainStatisticsReport",
        "GetEmailIdentity",
        "GetEmailIdentityPolicies",
        "GetExportJob",
        "ListExportJobs",
        "ListRecommendations",
        "PutEmailIdentityConfigurationSetAttributes",
        "PutEmailIdentityDkimAttributes",
        "PutEmailIdentityDkimSigningAttributes",
        "PutEmailIdentityFeedbackAttributes",
        "PutEmailIdentityMailFromAttributes",
        "TagResource",
        "UntagResource",
        "UpdateEmailIdentityPolicy",
    )
)
ADDRESS_KEYS = ("ses:fromaddress", "ses:fromdisplayname", "ses:feedbackaddress", "ses:recipients")
BULK = "ses:SendBulkEmail"


def what(subject: Subject) -> Iterator[Finding]:
    """Everything about the actions of one statement."""
    statement = subject.statement
    if statement.not_action:
        yield found(
            Code.not_action,
            subject.place,
            f"The statement is about every action but {listed(statement.actions)}, those that AWS adds later included.",
            "Use Action and list the calls that are meant.",
        )
    if statement.allow:
        yield from _management(subject)
        yield from _star(subject)
    yield from _unknown(subject)
    yield from _bulk(subject)


def permits(subject: Subject, action: str) -> bool:
    """Whether the statement is about this action."""
    return names_action(subject.statement, action)


def _management(subject: Subject) -> Iterator[Finding]:
    reached = [name for name in MANAGEMENT if permits(subject, name)]
    if reached and any(_is_foreign(subject, kind, text) for kind, text in subject.statement.principals):
        yield found(
            Code.management_action,
            subject.place,
            f"Another account would manage the identity ({listed([name[4:] for name in reached[:4]])}"
            f"{' and more' if len(reached) > 4 else ''}); SES documents this for the owner's own account only.",
            "List the sending actions alone; management goes through IAM in the owner's account.",
        )


def _is_foreign(subject: Subject, kind: str, text: str) -> bool:
    return subject.statement.not_principal or (kind == "AWS" and subject.identity.account_id not in text)


def _star(subject: Subject) -> Iterator[Finding]:
    wild = [action for action in subject.statement.actions if "*" in action or "?" in action]
    if wild and not subject.statement.not_action and any(permits(subject, name) for name in SENDING):
        extra = [name[4:] for name in OTHER_SENDING if permits(subject, name)]
        more = f"also permits {listed(extra)}, and" if extra else "also permits"
        yield found(
            Code.send_star,
            subject.place,
            f"{listed(wild)} {more} whatever AWS adds under such a name.",
            f"List the calls: {', '.join(SENDING)}.",
        )


def _unknown(subject: Subject) -> Iterator[Finding]:
    known = (*SENDING, *OTHER_SENDING, *MANAGEMENT)
    for action in subject.statement.actions:
        lower = action.lower()
        if lower.startswith("ses:") and not {"*", "?"} & set(lower) and lower not in map(str.lower, known):
            yield found(
                Code.unknown_action,
                subject.place,
                f"{action[:80]} is none of the actions that policies on identities are about.",
                f"For sending, use {', '.join(SENDING)}.",
            )


def _bulk(subject: Subject) -> Iterator[Finding]:
    """SES gives SendBulkEmail no address keys (Service Authorization Reference, Amazon SES v2)."""
    if not permits(subject, BULK):
        return
    limited = subject.on(*ADDRESS_KEYS)
    closed = [
        each for each in limited if each.over == "any" or not (is_negated(each) or each.if_exists or each.over == "all")
    ]
    shut = [each.key for each in limited if each in closed or subject.present(each.key)]
    if shut:
        yield found(
            Code.bulk_never_matches,
            subject.place,
            f"SES does not tell a policy the addresses of a SendBulkEmail call, so with the condition on "
            f"{listed(shut)} the statement never applies to one.",
            "Give SendBulkEmail a statement of its own without address conditions; the limits hold by "
            "SendBulkTemplatedEmail, which the call needs as well.",
        )
    elif limited:
        yield found(
            Code.bulk_ignores_limit,
            subject.at(limited[0]),
            f"SES does not tell a policy the addresses of a SendBulkEmail call, and a missing {limited[0].key} "
            "satisfies this condition: it limits nothing there.",
            "Leave SendBulkEmail out of this statement, or accept that it is without a limit.",
        )
