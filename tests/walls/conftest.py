"""The walls are tried on the whole application."""

from tests.app.conftest import anonymous, app, register

__all__ = ["anonymous", "app", "register"]
