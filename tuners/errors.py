"""What a user can put right."""


class TunerError(ValueError):
    """A tuner does not go with this network or these weights; the message says what would."""

    is_bad_input = True
