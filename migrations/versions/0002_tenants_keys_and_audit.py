"""Tenants, their API keys, the audit trail and the answers kept for idempotency keys."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE tenants (
  id uuid PRIMARY KEY,
  name text NOT NULL CONSTRAINT tenants_name_check CHECK (name <> ''),
  roles text[] NOT NULL CONSTRAINT tenants_roles_check
    CHECK (roles <@ ARRAY['owner', 'delegate'] AND cardinality(roles) > 0),
  contact_email text,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  name text NOT NULL,
  prefix text NOT NULL,
  digest bytea NOT NULL CONSTRAINT api_keys_digest_key UNIQUE,
  scopes text[] NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz
);

CREATE INDEX api_keys_tenant_id_idx ON api_keys (tenant_id);

CREATE TABLE audit (
  id uuid PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT now(),
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  counterpart_id uuid REFERENCES tenants (id),
  actor text NOT NULL,
  key_id uuid,
  request_id text NOT NULL,
  action text NOT NULL,
  subject_kind text NOT NULL,
  subject_id uuid NOT NULL,
  details jsonb NOT NULL
);

CREATE INDEX audit_tenant_id_idx ON audit (tenant_id, id);

CREATE INDEX audit_counterpart_id_idx ON audit (counterpart_id, id);

CREATE INDEX audit_subject_id_idx ON audit (subject_id, id);

CREATE TABLE idempotency_keys (
  scope text NOT NULL,
  key text NOT NULL,
  tenant_id uuid,
  fingerprint bytea NOT NULL,
  status integer NOT NULL,
  body bytea NOT NULL,
  sealed boolean NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (scope, key)
);

CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at)
"""

SECURITY = """
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;

ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE audit ENABLE ROW LEVEL SECURITY;

ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY;

CREATE POLICY own ON tenants TO broker_api, broker_worker USING (id = (SELECT current_tenant()));

CREATE POLICY own ON api_keys TO broker_api USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY parties ON audit FOR SELECT TO broker_api, broker_worker
  USING ((SELECT current_tenant()) IN (tenant_id, counterpart_id));

CREATE POLICY parties_write ON audit FOR INSERT TO broker_api, broker_worker
  WITH CHECK (tenant_id = (SELECT current_tenant()));

CREATE POLICY own ON idempotency_keys TO broker_api USING (tenant_id IS NOT DISTINCT FROM (SELECT current_tenant()));

GRANT SELECT, UPDATE ON tenants TO broker_api;

GRANT SELECT ON tenants TO broker_worker;

GRANT SELECT, INSERT, UPDATE ON api_keys TO broker_api;

GRANT SELECT, INSERT ON audit TO broker_api, broker_worker;

GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO broker_api
"""

# Before a tenant is known: registration makes the tenant and its first key; a key is found by its digest alone.
FUNCTIONS = """
CREATE FUNCTION register_tenant(
  new_id uuid, new_name text, new_roles text[], new_email text,
  key_id uuid, key_name text, key_prefix text, key_digest bytea, key_scopes text[]
) RETURNS uuid LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  INSERT INTO tenants (id, name, roles, contact_email) VALUES (new_id, new_name, new_roles, new_email);
  INSERT INTO api_keys (id, tenant_id, name, prefix, digest, scopes)
  VALUES (key_id, new_id, key_name, key_prefix, key_digest, key_scopes);
  INSERT INTO audit (id, tenant_id, actor, key_id, request_id, action, subject_kind, subject_id, details)
  VALUES (key_id, new_id, 'key', key_id, '', 'tenant.registered', 'tenant', new_id, '{}');
  SELECT new_id;
$$;

CREATE FUNCTION authenticate(key_digest bytea)
RETURNS TABLE (key_id uuid, tenant_id uuid, scopes text[])
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  UPDATE api_keys SET last_used_at = now()
  WHERE digest = key_digest AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute');
  SELECT id, api_keys.tenant_id, api_keys.scopes FROM api_keys
  WHERE digest = key_digest AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
$$;

CREATE FUNCTION tenant_names(ids uuid[]) RETURNS TABLE (id uuid, name text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT tenants.id, tenants.name FROM tenants WHERE tenants.id = ANY (ids)
$$;

CREATE FUNCTION forget_answers() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  WITH gone AS (DELETE FROM idempotency_keys WHERE created_at < now() - interval '24 hours' RETURNING 1)
  SELECT count(*) FROM gone
$$;

REVOKE ALL ON FUNCTION register_tenant, authenticate, tenant_names, forget_answers FROM PUBLIC;

GRANT EXECUTE ON FUNCTION register_tenant, authenticate, tenant_names TO broker_api;

GRANT EXECUTE ON FUNCTION forget_answers TO broker_worker
"""


def upgrade() -> None:
    for block in (TABLES, SECURITY, FUNCTIONS):
        for statement in block.split(";\n\n"):
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP FUNCTION register_tenant, authenticate, tenant_names, forget_answers")
    op.execute("DROP TABLE idempotency_keys, audit, api_keys, tenants")
