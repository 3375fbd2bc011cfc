"""Every kind of route: what was asked of it, what was found of it, and topics of tenants' own.

A broker topic belongs to one connection of its owner, so that its policy admits that one account. A topic of a tenant
is known by its ARN. `settings` is what the route's maker asked for, `found` what the last check saw, `choices` what can
be done about it. A route that was removed leaves its place to another of the same kind.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE topics
  ADD COLUMN connection_id uuid REFERENCES connections (id),
  ADD COLUMN configuration_set text,
  ADD COLUMN protocol text NOT NULL DEFAULT 'https'
    CONSTRAINT topics_protocol_check CHECK (protocol IN ('https', 'sqs')),
  DROP CONSTRAINT topics_tenant_id_region_source_key;

UPDATE topics SET connection_id = (
  SELECT c.id FROM connections c
  WHERE c.tenant_id = topics.tenant_id AND c.account_id = topics.accounts[1] ORDER BY c.state = 'removed', c.id LIMIT 1
) WHERE source = 'broker_topic';

CREATE UNIQUE INDEX topics_connection_id_region_key ON topics (connection_id, region) WHERE source = 'broker_topic';

ALTER TABLE routes
  ADD COLUMN settings jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN found jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN choices text[] NOT NULL DEFAULT '{}',
  ADD COLUMN wanted boolean NOT NULL DEFAULT true,
  ADD COLUMN made_by text NOT NULL DEFAULT 'owner'
    CONSTRAINT routes_made_by_check CHECK (made_by IN ('owner', 'delegate')),
  ADD COLUMN heard_at timestamptz,
  DROP CONSTRAINT routes_grant_id_kind_key;

CREATE UNIQUE INDEX routes_grant_id_kind_key ON routes (grant_id, kind) WHERE state <> 'removed';

CREATE INDEX routes_grant_id_idx ON routes (grant_id)
"""

BACK = """
DROP INDEX routes_grant_id_kind_key, routes_grant_id_idx;

ALTER TABLE routes
  DROP COLUMN settings, DROP COLUMN found, DROP COLUMN choices, DROP COLUMN wanted, DROP COLUMN made_by,
  DROP COLUMN heard_at,
  ADD CONSTRAINT routes_grant_id_kind_key UNIQUE (grant_id, kind);

DROP INDEX topics_connection_id_region_key;

ALTER TABLE topics
  DROP COLUMN connection_id, DROP COLUMN configuration_set, DROP COLUMN protocol,
  ADD CONSTRAINT topics_tenant_id_region_source_key UNIQUE (tenant_id, region, source)
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n\n"):
        op.execute(statement)


def downgrade() -> None:
    for statement in BACK.split(";\n\n"):
        op.execute(statement)
