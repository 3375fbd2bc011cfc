"""What the operator does under the login that owns the tables: another quota for one tenant."""

from uuid import UUID

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from broker.audit.service import record
from broker.caller import Caller
from broker.errors import NotFound
from broker.quotas import Quota
from broker.tenants.models import TenantQuota


async def allow(engine: AsyncEngine, tenant_id: UUID, quota: Quota, *, most: int | None) -> None:
    """At most `most` of these for this tenant, 0: no limit, None: what all have; `NotFound` without the tenant."""
    caller = Caller.system(tenant_id, job="operator")
    named = {"tenant_id": tenant_id, "name": quota.value}
    async with AsyncSession(engine) as session, session.begin():
        try:
            if most is None:
                await session.execute(delete(TenantQuota).filter_by(**named))
            else:
                row = insert(TenantQuota).values(**named, most=most)
                await session.execute(row.on_conflict_do_update("quotas_pkey", set_={"most": most}))
            subject = ("tenant", tenant_id)
            await record(session, caller, "quota.changed", subject=subject, name=quota.value, most=most)
        except IntegrityError as error:
            raise NotFound("There is no tenant with this id.") from error
