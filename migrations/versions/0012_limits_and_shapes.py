"""A rate limit and a payload shape for each endpoint; secrets are forgotten a day after they ended.

The function deletes across tenants, since housekeeping works for none of them, and returns a number only.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE endpoints
  ADD COLUMN rate_limit integer CONSTRAINT endpoints_rate_limit_check CHECK (rate_limit BETWEEN 1 AND 1000),
  ADD COLUMN shape text NOT NULL DEFAULT 'standard'
    CONSTRAINT endpoints_shape_check CHECK (shape IN ('standard', 'cloudevents'));

CREATE INDEX endpoint_secrets_expires_at_idx ON endpoint_secrets (expires_at) WHERE expires_at IS NOT NULL
"""

FORGET = """
CREATE FUNCTION forget_secrets() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  WITH gone AS (DELETE FROM endpoint_secrets WHERE expires_at < now() - interval '24 hours' RETURNING 1)
  SELECT count(*) FROM gone
$$
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n\n"):
        op.execute(statement)
    op.execute(FORGET)
    op.execute("REVOKE ALL ON FUNCTION forget_secrets FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION forget_secrets TO broker_worker")


def downgrade() -> None:
    op.execute("DROP FUNCTION forget_secrets")
    op.execute("DROP INDEX endpoint_secrets_expires_at_idx")
    op.execute("ALTER TABLE endpoints DROP COLUMN rate_limit, DROP COLUMN shape")
