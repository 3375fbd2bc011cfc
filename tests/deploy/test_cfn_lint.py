"""The template of the broker's own account as CloudFormation's own rules see it."""

import subprocess
import sys
from pathlib import Path

from tests.deploy.template import TEMPLATE

CFN_LINT = Path(sys.executable).with_name("cfn-lint")


def test_cfn_lint_finds_nothing_in_the_template() -> None:
    """Types, properties, references and policies are checked against AWS's resource schemas."""
    told = subprocess.run([CFN_LINT, TEMPLATE], capture_output=True, text=True, check=False)  # noqa: S603 — our own file

    assert (0, "") == (told.returncode, told.stdout + told.stderr)
