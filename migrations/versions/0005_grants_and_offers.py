"""Grants, the contracts between an owner and a delegate about one identity, and the offers that led to them."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE grants (
  id uuid PRIMARY KEY,
  owner_id uuid NOT NULL REFERENCES tenants (id),
  delegate_id uuid NOT NULL REFERENCES tenants (id),
  identity_id uuid NOT NULL REFERENCES identities (id),
  identity_arn text NOT NULL,
  paper text NOT NULL CONSTRAINT grants_paper_check CHECK (paper IN
    ('open', 'declined', 'withdrawn', 'lapsed', 'agreed', 'paused', 'revoked', 'relinquished', 'expired')),
  effect text NOT NULL CONSTRAINT grants_effect_check CHECK (effect IN
    ('none', 'applying', 'applied', 'failed', 'removing', 'removed')),
  error text,
  version integer NOT NULL DEFAULT 1,
  latest_offer_id uuid NOT NULL,
  agreed_offer_id uuid,
  terms jsonb,
  accounts text[] NOT NULL DEFAULT '{}',
  feedback jsonb,
  not_before timestamptz,
  expires_at timestamptz,
  slot integer,
  drifted boolean NOT NULL DEFAULT false,
  residual text[] NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  agreed_at timestamptz,
  activated_at timestamptz,
  ended_at timestamptz,
  removed_at timestamptz,
  verified_at timestamptz,
  stuck_at timestamptz,
  CONSTRAINT grants_parties_check CHECK (owner_id <> delegate_id),
  CONSTRAINT grants_identity_id_slot_key UNIQUE (identity_id, slot)
);

CREATE INDEX grants_owner_id_idx ON grants (owner_id, id);

CREATE INDEX grants_delegate_id_idx ON grants (delegate_id, id);

CREATE INDEX grants_identity_id_idx ON grants (identity_id);

CREATE INDEX grants_identity_arn_idx ON grants (identity_arn);

CREATE TABLE offers (
  id uuid PRIMARY KEY,
  grant_id uuid NOT NULL REFERENCES grants (id),
  owner_id uuid NOT NULL REFERENCES tenants (id),
  delegate_id uuid NOT NULL REFERENCES tenants (id),
  number integer NOT NULL,
  made_by text NOT NULL CONSTRAINT offers_made_by_check CHECK (made_by IN ('owner', 'delegate')),
  terms jsonb NOT NULL,
  note text,
  outcome text CONSTRAINT offers_outcome_check CHECK (outcome IN
    ('approved', 'countered', 'declined', 'withdrawn', 'lapsed', 'voided')),
  created_at timestamptz NOT NULL DEFAULT now(),
  lapses_at timestamptz NOT NULL,
  decided_at timestamptz,
  CONSTRAINT offers_grant_id_number_key UNIQUE (grant_id, number)
);

CREATE UNIQUE INDEX offers_grant_id_open_key ON offers (grant_id) WHERE outcome IS NULL;

CREATE INDEX offers_lapses_at_idx ON offers (lapses_at) WHERE outcome IS NULL;

ALTER TABLE grants ADD CONSTRAINT grants_latest_offer_id_fkey
  FOREIGN KEY (latest_offer_id) REFERENCES offers (id) DEFERRABLE INITIALLY DEFERRED;

ALTER TABLE grants ADD CONSTRAINT grants_agreed_offer_id_fkey
  FOREIGN KEY (agreed_offer_id) REFERENCES offers (id) DEFERRABLE INITIALLY DEFERRED
"""

# Either party sees the row, so the policy alone would let it name somebody else: who the parties are, and what was
# offered, is never updated.
SECURITY = """
ALTER TABLE grants ENABLE ROW LEVEL SECURITY;

ALTER TABLE offers ENABLE ROW LEVEL SECURITY;

CREATE POLICY parties ON grants TO broker_api, broker_worker
  USING ((SELECT current_tenant()) IN (owner_id, delegate_id));

CREATE POLICY parties ON offers TO broker_api, broker_worker
  USING ((SELECT current_tenant()) IN (owner_id, delegate_id));

CREATE POLICY routing ON grants FOR SELECT TO broker_ingest USING (true);

GRANT SELECT, INSERT ON grants, offers TO broker_api, broker_worker;

GRANT UPDATE (paper, effect, error, version, latest_offer_id, agreed_offer_id, terms, accounts, feedback, not_before,
  expires_at, slot, drifted, residual, agreed_at, activated_at, ended_at, removed_at, verified_at, stuck_at)
  ON grants TO broker_api, broker_worker;

GRANT UPDATE (outcome, decided_at) ON offers TO broker_api, broker_worker;

GRANT SELECT (id, owner_id, delegate_id, identity_id, identity_arn, accounts, feedback, activated_at, ended_at,
  verified_at, paper) ON grants TO broker_ingest
"""

# A delegate changes the paper of a grant whose identity belongs to the owner: it may wake that identity, no more.
FUNCTIONS = """
CREATE FUNCTION wake_identity(wanted uuid, at timestamptz) RETURNS uuid
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  UPDATE identities SET due_at = CASE WHEN claimed_until > now() THEN now() ELSE least(coalesce(due_at, at), at) END
  WHERE id = wanted AND EXISTS (
    SELECT FROM grants WHERE identity_id = wanted AND current_tenant() IN (owner_id, delegate_id))
  RETURNING id
$$;

REVOKE ALL ON FUNCTION wake_identity FROM PUBLIC;

GRANT EXECUTE ON FUNCTION wake_identity TO broker_api, broker_worker
"""


def upgrade() -> None:
    for block in (TABLES, SECURITY, FUNCTIONS):
        for statement in block.split(";\n\n"):
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP FUNCTION wake_identity")
    op.execute("ALTER TABLE grants DROP CONSTRAINT grants_latest_offer_id_fkey")
    op.execute("ALTER TABLE grants DROP CONSTRAINT grants_agreed_offer_id_fkey")
    op.execute("DROP TABLE offers, grants")
