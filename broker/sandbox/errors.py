"""The one exception with which any part of the local AWS refuses a call."""


class AwsError(Exception):
    """A refusal in AWS's words: its error code, its sentence and the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def access_denied(caller: str, action: str, resource: str) -> AwsError:
    """IAM's usual sentence, as STS, IAM, SNS and most services write it."""
    return AwsError(
        "AccessDenied", f"User: {caller} is not authorized to perform: {action} on resource: {resource}", 403
    )


def ses_access_denied(caller: str, action: str, resource: str) -> AwsError:
    """SES's own sentence with its odd quotes (Developer Guide, troubleshoot-smtp and error reports)."""
    message = f"User `{caller}' is not authorized to perform `{action}' on resource `{resource}'"
    return AwsError("AccessDenied", message, 403)


def invalid_parameter(message: str) -> AwsError:
    return AwsError("InvalidParameterValue", message)
