"""The one base class of errors that a user causes and can mend."""


class UserError(ValueError):
    """Something that the user gave cannot be used; the message says what, where, and what to do.

    The commands print the message alone, without a traceback.
    """
