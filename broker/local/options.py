"""What several commands take."""

import os
from pathlib import Path

import click

CALLS = (
    "v1_send_email",
    "v1_send_raw_email",
    "v1_send_templated_email",
    "v1_send_bulk_templated_email",
    "v2_send_email_simple",
    "v2_send_email_raw",
    "v2_send_email_template",
    "v2_send_bulk_email",
    "smtp",
)


def state_directory() -> Path:
    """The user's directory for state (XDG Base Directory Specification, XDG_STATE_HOME)."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "ses-delegation-broker"


def data_directory() -> Path:
    """Where local runs keep their data: .local of the checkout, or the user's directory for state."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout / ".local" if (checkout / "deploy" / "local").is_file() else state_directory()


data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Where its data go; default .local of the checkout.",
)
run_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Where to look for a local run; default as for `broker up`.",
)
api_option = click.option(
    "--api", metavar="URL", envvar="BROKER_API_URL", help="Of the broker; default the local run that is under way."
)
key_option = click.option(
    "--api-key", metavar="KEY", envvar="BROKER_API_KEY", help="A key of your tenant; better in BROKER_API_KEY."
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON on stdout, everything else on stderr.")
