"""The errors that a user can mend: what is wrong, where, and the way out, in one line."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can mend. The message is shown as it is, without a traceback."""

    exit_status = 2


class ConfigurationError(UserError):
    """A setting that is unknown or has the wrong type."""


class UnknownRuleError(UserError):
    """A rule id that no rule has."""


class RuleFolderError(UserError):
    """A rule folder that cannot be loaded."""


class ApplyError(UserError):
    """The working tree could not be written; it was left, or put back, as it was."""


class PublishError(UserError):
    """The plan is good, but it could not be published; what was published before stays."""

    exit_status = 3
