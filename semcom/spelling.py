"""How numbers are spelled in names of schemes, codecs and receivers."""


def digits(value: float) -> str:
    """Shortest text from which a number can be read again exactly, for the parameters of names.

    Args:
        value: Any finite number.

    Returns:
        Up to 6 digits if they are enough, else all; 0 without a sign.

    Example:
        >>> digits(0.25), digits(1000.0), digits(-0.0), digits(0.123456789)
        ('0.25', '1000', '0', '0.123456789')
    """
    short = f"{value + 0.0:g}"
    return short if float(short) == value else repr(value)
