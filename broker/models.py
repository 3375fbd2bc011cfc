"""Every table of the broker in one metadata, for `alembic check`."""

import broker.audit.models
import broker.connections.models
import broker.feedback.erasures.models
import broker.feedback.models
import broker.feedback.suppressions.models
import broker.feedback.usage.models
import broker.grants.alarms.models
import broker.grants.models
import broker.identities.models
import broker.tenants.models
import broker.webhooks.digests.models
import broker.webhooks.ledger.models
import broker.webhooks.models
import broker.webhooks.replays.models  # noqa: F401 - each import registers its tables
from broker.tables import Base

metadata = Base.metadata
