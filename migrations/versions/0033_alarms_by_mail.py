"""A revocation that is stuck is also told by mail, to the address that a tenant names for that; a mail is a due row.

The rows are the owner's, also those for the delegate: whoever raises an alarm works for the owner. `alarm_addresses`
tells workers, and nobody else, where to write to. The functions that claim are changed as they stand: which other
tables they know is the business of other migrations.
"""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE tenants ADD COLUMN alarm_address text;

CREATE TABLE alarms (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  grant_id uuid NOT NULL REFERENCES grants (id),
  party text NOT NULL CONSTRAINT alarms_party_check CHECK (party IN ('owner', 'delegate')),
  error text NOT NULL,
  commands text[] NOT NULL DEFAULT '{}',
  outcome text CONSTRAINT alarms_outcome_check CHECK (outcome IN ('sent', 'refused', 'unaddressed', 'over', 'off')),
  reason text,
  created_at timestamptz NOT NULL DEFAULT now(),
  done_at timestamptz,
  due_at timestamptz,
  claimed_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempts integer NOT NULL DEFAULT 0
);

CREATE INDEX alarms_due_at_idx ON alarms (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX alarms_grant_id_idx ON alarms (grant_id);

ALTER TABLE alarms ENABLE ROW LEVEL SECURITY;

CREATE POLICY own ON alarms TO broker_worker USING (tenant_id = (SELECT current_tenant()));

GRANT SELECT, INSERT ON alarms TO broker_worker;

GRANT UPDATE (outcome, reason, done_at, due_at, claimed_until, attempts) ON alarms TO broker_worker;

CREATE FUNCTION alarm_addresses(ids uuid[]) RETURNS TABLE (id uuid, name text, address text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT tenants.id, tenants.name, tenants.alarm_address FROM tenants WHERE tenants.id = ANY (ids)
$$;

REVOKE ALL ON FUNCTION alarm_addresses FROM PUBLIC;

GRANT EXECUTE ON FUNCTION alarm_addresses TO broker_worker
"""

DOWN = """
DROP FUNCTION alarm_addresses;

DROP TABLE alarms;

ALTER TABLE tenants DROP COLUMN alarm_address
"""

CHANGE = """
DO $do$
DECLARE body text := pg_get_functiondef('{function}'::regprocedure);
BEGIN
  IF strpos(body, $old${old}$old$) = 0 THEN
    RAISE EXCEPTION '{function} is not as this migration knows it';
  END IF;
  EXECUTE replace(body, $old${old}$old$, $new${new}$new$);
END
$do$
"""
FUNCTIONS = ("claim_due(text, integer, interval, uuid[])", "next_due(text)")
BEFORE, AFTER = "kind NOT IN ('connections'", "kind NOT IN ('alarms', 'connections'"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in UP.strip().split(";\n\n"):
        op.execute(statement)
    for function in FUNCTIONS:
        op.execute(CHANGE.format(function=function, old=BEFORE, new=AFTER))


def downgrade() -> None:
    for function in FUNCTIONS:
        op.execute(CHANGE.format(function=function, old=AFTER, new=BEFORE))
    for statement in DOWN.strip().split(";\n\n"):
        op.execute(statement)
