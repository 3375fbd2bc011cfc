"""Quotas of single tenants: what the operator allows one tenant in place of the installation's number.

Written by the operator (`broker quota`) under the login that owns the tables, read by a tenant's own requests.

Revision ID: 0036
"""

from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

UP = """
SET LOCAL lock_timeout = '5s';

CREATE TABLE quotas (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  name text NOT NULL,
  most integer NOT NULL,
  CONSTRAINT quotas_pkey PRIMARY KEY (tenant_id, name),
  CONSTRAINT quotas_most_check CHECK (most >= 0)
);

ALTER TABLE quotas ENABLE ROW LEVEL SECURITY;

CREATE POLICY own ON quotas FOR SELECT TO broker_api USING (tenant_id = (SELECT current_tenant()));

GRANT SELECT ON quotas TO broker_api
"""

DOWN = """
SET LOCAL lock_timeout = '5s';

DROP TABLE quotas
"""


def upgrade() -> None:
    for statement in UP.split(";\n\n"):
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWN.split(";\n\n"):
        op.execute(statement)
