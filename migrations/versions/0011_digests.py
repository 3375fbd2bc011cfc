"""Daily digests of what each endpoint was to get.

`digests` says for each endpoint which day is to be cut next, as a due row. A day is cut when no transaction can add to
it: `closing_xact` is one that began late enough, and all before it must have ended. Events are walked in the order of
(xact, id), for which each party has an index already: no event of the day lies before `since_xact`, the oldest open
transaction at a time before the day began. `mark_xact` is the same at `mark_at`, for a day to come.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE endpoints ADD COLUMN filters_changed_at timestamptz;

CREATE TABLE digests (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL,
  day date NOT NULL DEFAULT (((now() + interval '1 minute') AT TIME ZONE 'UTC')::date + 1),
  since_xact bigint NOT NULL DEFAULT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint),
  mark_xact bigint NOT NULL DEFAULT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint),
  mark_at timestamptz NOT NULL DEFAULT now(),
  closing_xact bigint,
  due_at timestamptz,
  claimed_until timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  attempts integer NOT NULL DEFAULT 0,
  CONSTRAINT digests_tenant_id_fkey FOREIGN KEY (tenant_id, id) REFERENCES endpoints (tenant_id, id)
) WITH (fillfactor = 70);

CREATE INDEX digests_due_at_idx ON digests (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE endpoint_digests (
  endpoint_id uuid NOT NULL,
  day date NOT NULL,
  tenant_id uuid NOT NULL,
  event_id uuid NOT NULL,
  count bigint NOT NULL,
  sha256 text NOT NULL,
  types jsonb NOT NULL,
  cut_at timestamptz NOT NULL,
  filters_changed_at timestamptz,
  PRIMARY KEY (endpoint_id, day),
  CONSTRAINT endpoint_digests_tenant_id_fkey
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES endpoints (tenant_id, id)
);

INSERT INTO digests (id, tenant_id, due_at) SELECT id, tenant_id, now() FROM endpoints WHERE state <> 'deleted'
"""

SECURITY = """
ALTER TABLE digests ENABLE ROW LEVEL SECURITY;

ALTER TABLE endpoint_digests ENABLE ROW LEVEL SECURITY;

CREATE POLICY own ON digests TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

CREATE POLICY own ON endpoint_digests TO broker_api, broker_worker USING (tenant_id = (SELECT current_tenant()));

GRANT SELECT, INSERT ON digests TO broker_api;

GRANT SELECT ON digests TO broker_worker;

GRANT UPDATE (day, since_xact, mark_xact, mark_at, closing_xact, due_at, claimed_until, attempts)
  ON digests TO broker_worker;

GRANT SELECT ON endpoint_digests TO broker_api;

GRANT SELECT, INSERT ON endpoint_digests TO broker_worker
"""


def upgrade() -> None:
    for block in (TABLES, SECURITY):
        for statement in block.split(";\n\n"):
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE endpoint_digests, digests")
    op.execute("ALTER TABLE endpoints DROP COLUMN filters_changed_at")
