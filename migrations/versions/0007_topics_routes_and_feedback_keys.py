"""How SES feedback reaches us: topics and routes; which events were seen; what could not be trusted."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE topics (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  arn text CONSTRAINT topics_arn_key UNIQUE,
  region text NOT NULL,
  accounts text[] NOT NULL DEFAULT '{}',
  source text NOT NULL CONSTRAINT topics_source_check CHECK (source IN ('broker_topic', 'tenant_topic')),
  state text NOT NULL CONSTRAINT topics_state_check CHECK (state IN ('pending', 'confirmed', 'lost')),
  reason text,
  subscription_arn text,
  created_at timestamptz NOT NULL DEFAULT now(),
  due_at timestamptz,
  claimed_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempts integer NOT NULL DEFAULT 0,
  CONSTRAINT topics_tenant_id_region_source_key UNIQUE (tenant_id, region, source)
);

CREATE INDEX topics_due_at_idx ON topics (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE routes (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  delegate_id uuid NOT NULL REFERENCES tenants (id),
  grant_id uuid NOT NULL REFERENCES grants (id),
  identity_id uuid NOT NULL REFERENCES identities (id),
  kind text NOT NULL CONSTRAINT routes_kind_check
    CHECK (kind IN ('identity_topic', 'configuration_set', 'foreign_topic', 'legacy')),
  topic_id uuid REFERENCES topics (id),
  state text NOT NULL CONSTRAINT routes_state_check
    CHECK (state IN ('requested', 'configured', 'live', 'quiet', 'pending', 'broken', 'removed')),
  reason text,
  previous jsonb,
  live_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  due_at timestamptz,
  claimed_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempts integer NOT NULL DEFAULT 0,
  CONSTRAINT routes_grant_id_kind_key UNIQUE (grant_id, kind)
);

CREATE INDEX routes_due_at_idx ON routes (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX routes_tenant_id_idx ON routes (tenant_id, id);

CREATE INDEX routes_delegate_id_idx ON routes (delegate_id, id);

CREATE INDEX routes_identity_id_idx ON routes (identity_id);

CREATE TABLE event_keys (
  day date NOT NULL,
  key bytea NOT NULL,
  event_id uuid NOT NULL,
  PRIMARY KEY (day, key)
) PARTITION BY RANGE (day);

CREATE TABLE event_keys_default PARTITION OF event_keys DEFAULT;

CREATE TABLE quarantine (
  id uuid PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT now(),
  tenant_id uuid REFERENCES tenants (id),
  topic_arn text NOT NULL,
  reason text NOT NULL,
  payload text NOT NULL
);

CREATE INDEX quarantine_tenant_id_idx ON quarantine (tenant_id, id)
"""

SECURITY = """
ALTER TABLE topics ENABLE ROW LEVEL SECURITY;

ALTER TABLE routes ENABLE ROW LEVEL SECURITY;

ALTER TABLE event_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE event_keys_default ENABLE ROW LEVEL SECURITY;

ALTER TABLE quarantine ENABLE ROW LEVEL SECURITY;

CREATE POLICY own ON topics TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY parties ON routes TO broker_api, broker_worker
  USING ((SELECT current_tenant()) IN (tenant_id, delegate_id));

CREATE POLICY own ON quarantine FOR SELECT TO broker_api USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY routing ON topics TO broker_ingest USING (true);

CREATE POLICY routing ON routes TO broker_ingest USING (true);

CREATE POLICY ingest ON event_keys TO broker_ingest USING (true);

CREATE POLICY ingest ON quarantine TO broker_ingest USING (true);

GRANT SELECT, INSERT, UPDATE ON topics, routes TO broker_api, broker_worker;

GRANT SELECT ON quarantine TO broker_api;

GRANT SELECT (id, tenant_id, arn, accounts, source, state) ON topics TO broker_ingest;

GRANT SELECT (id, grant_id, topic_id, live_at) ON routes TO broker_ingest;

GRANT UPDATE (live_at, due_at) ON routes TO broker_ingest;

GRANT SELECT, INSERT ON event_keys, quarantine TO broker_ingest;

SELECT make_days(current_date - 1, 10)
"""


def upgrade() -> None:
    for block in (TABLES, SECURITY):
        for statement in block.split(";\n\n"):
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE quarantine, event_keys, routes, topics")
