"""Why a message is in quarantine: few and fixed, so that they can be counted; the value is what people read."""

from enum import StrEnum


class Reason(StrEnum):
    """The name is the label in the metrics."""

    not_json = "The message is not JSON."
    no_object = "The message is not a JSON object."
    no_type = "The message does not say what kind of event it is."
    no_mail = "The message does not say which mail it is about, or when that was sent."
    no_recipient = "The message names no recipient."
    too_many_recipients = "The message names more recipients than a mail of SES can have."
    unknown_topic = "The topic belongs to no route."
    future_message = "The time of the message is more than 15 minutes in the future."
    future_mail = "The mail is said to have been sent after the message about it."
    no_sender = "The message does not say which identity or which account sent the mail."
    foreign_identity = "The identity is not in an account that publishes to this topic."
    foreign_account = "Another account than the topic's is said to have sent the mail."
    foreign_set = "The mail was sent through another configuration set than the route's."
    no_grant = "The topic's tenant has no live or recent grant on this identity."
    no_message = "This is no message of SNS with its envelope and signature; raw delivery carries none."
    no_event = "This is no event of SES as EventBridge hands it on."
    bad_signature = "The signature does not fit the message."
