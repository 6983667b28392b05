"""Errors for the person at the keyboard. The command line prints them without a traceback and exits with 2."""

from __future__ import annotations


class UserError(ValueError):
    """Something given is wrong. The message says what was found, what was expected and what to type."""
