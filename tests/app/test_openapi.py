"""What the document promises of an answer's headers."""

import httpx

METHODS = {"get", "post", "patch", "delete"}


async def test_answers_that_pass_by_themselves_are_documented_with_when_to_come_back(
    anonymous: httpx.AsyncClient,
) -> None:
    """RFC 9110, 10.2.3; and no other answer promises it."""
    document = (await anonymous.get("/schema/openapi.json")).json()
    told: dict[bool, set[str]] = {True: set(), False: set()}
    for item in document["paths"].values():
        for operation in (item[method] for method in METHODS & set(item)):
            for status, answer in operation["responses"].items():
                told["Retry-After" in answer.get("headers", {})].add(status)
            header = operation["responses"]["503"]["headers"]["Retry-After"]
            assert {"type": "integer", "minimum": 1} == header["schema"]

    assert told[True] <= {"429", "503"}
    assert not told[False] & {"429", "503"}
