"""AWS accounts, proven and bound to one tenant each, and the SES identities found in them."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE connections (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  kind text NOT NULL CONSTRAINT connections_kind_check CHECK (kind IN ('role', 'proof', 'manual')),
  account_id text NOT NULL CONSTRAINT connections_account_id_check CHECK (account_id ~ '^[0-9]{12}$'),
  regions text[] NOT NULL,
  external_id text NOT NULL,
  role_arn text,
  state text NOT NULL CONSTRAINT connections_state_check
    CHECK (state IN ('pending', 'verified', 'degraded', 'lost', 'removed')),
  reason text,
  nonce text,
  nonce_expires_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  verified_at timestamptz,
  due_at timestamptz,
  claimed_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempts integer NOT NULL DEFAULT 0
);

CREATE UNIQUE INDEX connections_tenant_id_account_id_key ON connections (tenant_id, account_id)
  WHERE state <> 'removed';

CREATE INDEX connections_due_at_idx ON connections (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE accounts (
  account_id text PRIMARY KEY,
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  connection_id uuid NOT NULL REFERENCES connections (id),
  proven_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX accounts_tenant_id_idx ON accounts (tenant_id);

CREATE TABLE identities (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  connection_id uuid NOT NULL REFERENCES connections (id),
  account_id text NOT NULL,
  region text NOT NULL,
  name text NOT NULL,
  kind text NOT NULL CONSTRAINT identities_kind_check CHECK (kind IN ('domain', 'email')),
  arn text NOT NULL,
  verified boolean NOT NULL,
  attributes jsonb NOT NULL,
  policies jsonb NOT NULL,
  read_at timestamptz,
  sync_error text,
  created_at timestamptz NOT NULL DEFAULT now(),
  removed_at timestamptz,
  due_at timestamptz,
  claimed_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempts integer NOT NULL DEFAULT 0
);

CREATE UNIQUE INDEX identities_arn_key ON identities (arn) WHERE removed_at IS NULL;

CREATE INDEX identities_connection_id_idx ON identities (connection_id);

CREATE INDEX identities_tenant_id_idx ON identities (tenant_id, id);

CREATE INDEX identities_due_at_idx ON identities (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE policy_documents (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  identity_id uuid NOT NULL REFERENCES identities (id),
  name text NOT NULL,
  document text NOT NULL,
  digest bytea NOT NULL,
  ours boolean NOT NULL,
  seen_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT policy_documents_identity_id_name_digest_key UNIQUE (identity_id, name, digest)
);

CREATE SEQUENCE policy_versions
"""

SECURITY = """
ALTER TABLE connections ENABLE ROW LEVEL SECURITY;

ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;

ALTER TABLE identities ENABLE ROW LEVEL SECURITY;

ALTER TABLE policy_documents ENABLE ROW LEVEL SECURITY;

CREATE POLICY own ON connections TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY own ON accounts TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY own ON identities TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY own ON policy_documents TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY routing ON identities FOR SELECT TO broker_ingest USING (true);

GRANT SELECT, INSERT, UPDATE ON connections, identities TO broker_api, broker_worker;

GRANT SELECT, INSERT, DELETE ON accounts TO broker_api;

GRANT SELECT, INSERT ON accounts TO broker_worker;

GRANT SELECT, INSERT ON policy_documents TO broker_api, broker_worker;

GRANT SELECT (id, tenant_id, arn, account_id, region, name) ON identities TO broker_ingest;

GRANT USAGE ON SEQUENCE policy_versions TO broker_api, broker_worker
"""

FUNCTIONS = """
CREATE FUNCTION find_identity(wanted text) RETURNS TABLE (identity_id uuid, owner_id uuid, verified boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT identities.id, identities.tenant_id, identities.verified FROM identities
  WHERE arn = wanted AND removed_at IS NULL
$$;

CREATE FUNCTION account_tenants(wanted text[]) RETURNS TABLE (account_id text, tenant_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT accounts.account_id, accounts.tenant_id FROM accounts WHERE accounts.account_id = ANY (wanted)
$$;

REVOKE ALL ON FUNCTION find_identity, account_tenants FROM PUBLIC;

GRANT EXECUTE ON FUNCTION find_identity, account_tenants TO broker_api, broker_worker
"""


def upgrade() -> None:
    for block in (TABLES, SECURITY, FUNCTIONS):
        for statement in block.split(";\n\n"):
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP FUNCTION find_identity, account_tenants")
    op.execute("DROP TABLE policy_documents, identities, accounts, connections")
    op.execute("DROP SEQUENCE policy_versions")
