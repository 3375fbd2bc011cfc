"""What the benchmarks of the policy engine measure and read; how fast it is, no test asserts."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bench import mutate
from bench.evaluate import BAR, measure, policy, sends
from bench.mutate import MODULES, Mutant, explanations, read_diff, sort_out
from broker.policies.document import read
from broker.policies.evaluate import Decision, evaluate

IDENTITY = "arn:aws:ses:eu-west-1:111122223333:identity/example.com"


def test_the_policy_that_is_measured_has_three_statements_and_every_outcome() -> None:
    found = [evaluate([policy()], send, identity_arn=IDENTITY).decision for send in sends().values()]

    assert 3 == len(read(policy()).statements)
    assert [*sends()] == found == [Decision.allow, Decision.explicit_deny, Decision.implicit_deny]


def test_a_measurement_gives_rates_of_every_outcome() -> None:
    found = measure(0.1)

    assert BAR == 20_000
    assert {"allow", "explicit_deny", "implicit_deny"} == set(found.by_decision)
    assert min(found.evaluations_per_s, found.lines_per_s, found.calibration_us, *found.by_decision.values()) > 0


def test_the_command_prints_and_keeps_one_object(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603 — our own words
        [sys.executable, "-m", "broker.cli", "bench", "evaluate", "--seconds", "0.1", "--json", "--out", str(tmp_path)],
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
    )

    shown = json.loads(done.stdout)
    assert shown == json.loads((tmp_path / "evaluate.json").read_text())
    assert {"at", "python", "evaluations_per_s", "by_decision", "lines_per_s", "calibration_us"} == set(shown)


DIFF = """# broker.policies.wildcards.x__find__mutmut_3: survived
--- broker/policies/wildcards.py
+++ broker/policies/wildcards.py
@@ -1,4 +1,4 @@
 def _find(piece):
-    if last < begin:
-        return -1
+    if last <= begin:
     return 0
"""


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("broker.policies.wildcards.x__find__mutmut_3", "wildcards._find"),
        ("broker.policies.evaluate.x_evaluate__mutmut_12", "evaluate.evaluate"),
        ("broker.policies.evaluate.xǁ_Askedǁholds__mutmut_1", "evaluate._Asked.holds"),
    ],
)
def test_a_diff_tells_what_stood_there_and_what_stands_there(name: str, function: str) -> None:
    assert Mutant(function, "if last < begin: return -1", "if last <= begin:") == read_diff(name, DIFF)


def test_survivors_are_sorted_out_by_their_explanations() -> None:
    known = [Mutant("a.b", "1", "2", "no difference"), Mutant("a.c", "1", "2", "no difference")]
    survivors = [Mutant("a.b", "1", "2"), Mutant("a.b", "1", "3")]

    assert ([known[0]], [survivors[1]], [known[1]]) == sort_out(survivors, known)


def test_every_explanation_is_of_a_line_that_is_there_and_has_a_reason() -> None:
    for each in explanations():
        module, _, function = each.function.partition(".")
        source = (mutate.ROOT / "broker" / "policies" / f"{module}.py").read_text()

        assert module in MODULES
        assert f"def {function.rpartition('.')[2]}(" in source
        assert each.old in " ".join(line.strip() for line in source.splitlines())
        assert len(each.why) > 20
        assert each.old != each.new


def test_explanations_are_unique() -> None:
    keys = [msgspec.structs.replace(each, why="") for each in explanations()]

    assert len(keys) == len(set(keys))
