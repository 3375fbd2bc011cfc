"""Roles of one job each, and the tenant that row-level security compares with.

The login of the service is a member of the roles and has no right of its own: every transaction takes one role and one
tenant with SET LOCAL. Roles belong to the whole cluster, so they may exist already.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROLES = ("broker_api", "broker_ingest", "broker_pump", "broker_worker")


def upgrade() -> None:
    for role in ROLES:
        op.execute(
            f"""
            DO $$ BEGIN
              IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
                CREATE ROLE {role} NOLOGIN;
              END IF;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END $$
            """
        )
        op.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
    op.execute(
        """
        CREATE FUNCTION current_tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
        $$ SELECT nullif(current_setting('app.tenant_id', true), '')::uuid $$
        """
    )


def downgrade() -> None:
    # The roles stay: another database of the cluster may use them.
    op.execute("DROP FUNCTION current_tenant()")
    for role in ROLES:
        op.execute(f"REVOKE USAGE ON SCHEMA public FROM {role}")
