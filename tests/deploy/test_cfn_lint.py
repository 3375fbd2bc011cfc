"""The template of the broker's own account as CloudFormation's own rules see it."""

import subprocess
import sys

from tests.deploy.template import TEMPLATE


def test_cfn_lint_finds_nothing_in_the_template() -> None:
    """Types, properties, references and policies are checked against AWS's resource schemas."""
    told = subprocess.run([sys.executable, "-m", "cfnlint", str(TEMPLATE)], capture_output=True, text=True, check=False)  # noqa: S603 — our own file

    assert (0, "") == (told.returncode, told.stdout + told.stderr)
