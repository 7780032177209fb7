"""The one exception that a user's mistake raises."""


class UserError(ValueError):
    """Bad input, told in one line that names the file, row and field and what is expected.

    Command lines print the message without a traceback and exit with status 2.
    """
