"""The setting that says for how long a Deny is kept."""

from datetime import timedelta

import pytest

from broker.configuration import load
from broker.settings import SettingsError
from tests.kernel.test_queue_settings import NEEDED


def test_a_deny_is_kept_for_twenty_minutes() -> None:
    assert timedelta(minutes=20) == load(NEEDED).deny_kept


def test_in_production_it_outlives_every_late_request() -> None:
    """Some services of AWS take a signature for as long as fifteen minutes."""
    with pytest.raises(SettingsError, match="BROKER_DENY_KEPT must be at least 900 seconds"):
        load({**NEEDED, "BROKER_DENY_KEPT": "899"})

    assert timedelta(minutes=15) == load({**NEEDED, "BROKER_DENY_KEPT": "900"}).deny_kept
    assert timedelta(0) == load({**NEEDED, "BROKER_DENY_KEPT": "0", "BROKER_ENVIRONMENT": "local"}).deny_kept
