"""A disk that is full: what would be written is 503, what was written stays, and room is all that is needed."""

from pathlib import Path

from broker.settings import Settings
from tests.dependencies.conftest import Api, OwnPostgres, is_come_back, serving
from tests.dependencies.disks import small_disk

MOST = 400  # writes until the room that tables have left in their last pages is used up


async def writes_until_full(api: Api) -> list[str]:
    """Ids of what could still be written; then it is said that there is trouble."""
    made: list[str] = []
    for _ in range(MOST):
        answer = await api.connect()
        if is_come_back(answer):
            return made
        assert 201 == answer.status_code, answer.text
        made.append(answer.json()["id"])
    raise AssertionError("The disk is not full.")


async def test_a_full_disk_refuses_writes_serves_reads_and_needs_only_room(
    own_settings: Settings, own_url: str, own_postgres: OwnPostgres, tmp_path: Path
) -> None:
    async with small_disk(own_postgres, tmp_path) as disk, serving(own_settings) as api:
        first = (await api.connect()).json()["id"]
        await disk.fill()
        made = await writes_until_full(api)
        refused = [await api.connect() for _ in range(3)]
        during, ready = await api.ids(), await api.ready()
        await disk.free()
        after = await api.connect()

        assert [True] * 3 == [is_come_back(each) for each in refused]
        assert {first, *made} == during
        assert 200 == ready[0]
        assert 201 == after.status_code
        assert {first, *made, after.json()["id"]} == await api.ids()
