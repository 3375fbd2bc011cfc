"""The audit trail is sealed into a chain for each tenant, in the order of its commits, by a due row.

`audit.xact` is the transaction that wrote an entry; nobody gives it, or the time, but the database. Entries that were
there before have 0: all of them have ended.

`audit_seals` has a place in the chain for each entry; nobody can change or delete one. `audit_chains` says how far each
tenant's chain is. Whoever writes an entry touches neither: `wake_chains` finds what was written since `audit_mark`, as
soon as every earlier transaction has ended, and makes its chains due.

`policies_of_grant`: for both parties' receipt, what SES was last read to hold of a grant, and what else lets its
delegate send.
"""

from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE audit ADD COLUMN xact bigint NOT NULL DEFAULT 0;

ALTER TABLE audit ALTER COLUMN xact SET DEFAULT (pg_current_xact_id()::text::bigint);

CREATE INDEX audit_tenant_id_xact_idx ON audit (tenant_id, xact, id);

CREATE INDEX audit_xact_idx ON audit (xact);

CREATE TABLE audit_seals (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  position bigint NOT NULL CONSTRAINT audit_seals_position_check CHECK (position > 0),
  entry_id uuid NOT NULL CONSTRAINT audit_seals_entry_id_key UNIQUE REFERENCES audit (id),
  counterpart_id uuid,
  digest text NOT NULL,
  previous text NOT NULL,
  sealed_at timestamptz NOT NULL,
  hash text NOT NULL,
  key_id text NOT NULL,
  signature text NOT NULL,
  PRIMARY KEY (tenant_id, position)
);

CREATE INDEX audit_seals_counterpart_id_idx ON audit_seals (counterpart_id, tenant_id, position);

CREATE TABLE audit_chains (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL CONSTRAINT audit_chains_tenant_id_check CHECK (tenant_id = id),
  after_xact bigint NOT NULL DEFAULT -1,
  after_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  position bigint NOT NULL DEFAULT 0,
  hash text,
  due_at timestamptz,
  claimed_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempts integer NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE INDEX audit_chains_due_at_idx ON audit_chains (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE audit_mark (
  id boolean PRIMARY KEY DEFAULT true CONSTRAINT audit_mark_id_check CHECK (id),
  xact bigint NOT NULL
);

INSERT INTO audit_mark (xact) VALUES (0);

ALTER TABLE audit_seals ENABLE ROW LEVEL SECURITY;

ALTER TABLE audit_chains ENABLE ROW LEVEL SECURITY;

ALTER TABLE audit_mark ENABLE ROW LEVEL SECURITY;

CREATE POLICY parties ON audit_seals FOR SELECT TO broker_api, broker_worker
  USING ((SELECT current_tenant()) IN (tenant_id, counterpart_id));

CREATE POLICY own_write ON audit_seals FOR INSERT TO broker_worker WITH CHECK (tenant_id = (SELECT current_tenant()));

CREATE POLICY own ON audit_chains TO broker_worker USING (tenant_id = (SELECT current_tenant()));

GRANT SELECT ON audit_seals TO broker_api;

GRANT SELECT, INSERT ON audit_seals TO broker_worker;

GRANT SELECT ON audit_chains TO broker_worker;

GRANT UPDATE (after_xact, after_id, position, hash, due_at, claimed_until, attempts) ON audit_chains TO broker_worker;

REVOKE INSERT ON audit FROM broker_api, broker_worker, broker_pump, broker_ingest;

GRANT INSERT (id, tenant_id, counterpart_id, actor, key_id, request_id, action, subject_kind, subject_id, details)
  ON audit TO broker_api, broker_worker, broker_pump, broker_ingest;

CREATE FUNCTION wake_chains() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE since bigint; ended bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint; woken bigint;
BEGIN
  SELECT m.xact INTO since FROM audit_mark m;
  IF NOT EXISTS (SELECT FROM audit a WHERE a.xact >= since AND a.xact < ended) THEN
    RETURN 0;
  END IF;
  SELECT m.xact INTO since FROM audit_mark m FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN 0;
  END IF;
  INSERT INTO audit_chains AS c (id, tenant_id, due_at)
  SELECT DISTINCT a.tenant_id, a.tenant_id, now() FROM audit a WHERE a.xact >= since AND a.xact < ended
  ORDER BY a.tenant_id
  ON CONFLICT (id) DO UPDATE SET due_at = now();
  GET DIAGNOSTICS woken = ROW_COUNT;
  UPDATE audit_mark SET xact = greatest(xact, ended);
  RETURN woken;
END
$$;

CREATE FUNCTION policies_of_grant(grant_id uuid) RETURNS TABLE (name text, digest text, read_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT p.key, encode(sha256(convert_to(p.value, 'UTF8')), 'hex'), i.read_at
  FROM grants g JOIN identities i ON i.id = g.identity_id CROSS JOIN jsonb_each_text(i.policies) p
  WHERE g.id = grant_id AND current_tenant() IN (g.owner_id, g.delegate_id) AND i.read_at IS NOT NULL
    AND (strpos(p.value, replace(g.id::text, '-', '')) > 0 OR p.key = ANY (g.residual))
  ORDER BY p.key
$$;

REVOKE ALL ON FUNCTION wake_chains, policies_of_grant FROM PUBLIC;

GRANT EXECUTE ON FUNCTION wake_chains TO broker_worker;

GRANT EXECUTE ON FUNCTION policies_of_grant TO broker_api
"""

DOWN = """
DROP FUNCTION wake_chains, policies_of_grant;

DROP TABLE audit_mark, audit_chains, audit_seals;

REVOKE INSERT (id, tenant_id, counterpart_id, actor, key_id, request_id, action, subject_kind, subject_id, details)
  ON audit FROM broker_api, broker_worker, broker_pump, broker_ingest;

GRANT INSERT ON audit TO broker_api, broker_worker, broker_pump, broker_ingest;

ALTER TABLE audit DROP COLUMN xact
"""

# One more table of due rows, whichever there are already.
KNOWN = """
DO $do$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['claim_due', 'next_due'] LOOP
    EXECUTE replace(pg_get_functiondef(name::regproc), '{old}', '{new}');
  END LOOP;
END
$do$
"""
WITHOUT, WITH = "kind NOT IN (''", "kind NOT IN (''audit_chains'', ''"


def upgrade() -> None:
    for statement in UP.split(";\n\n"):
        op.execute(statement)
    op.execute(KNOWN.format(old=WITHOUT, new=WITH))


def downgrade() -> None:
    op.execute(KNOWN.format(old=WITH, new=WITHOUT))
    for statement in DOWN.split(";\n\n"):
        op.execute(statement)
