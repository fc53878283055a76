"""Training recipes by name, for the command line."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from inspect import signature
from typing import Any

from semcom.errors import InvalidOption, SemcomError, UnknownName

RECIPES = {
    "deepjscc": "semcom.training.deepjscc",
    "deepjscc-perceptual": "semcom.training.perceptual",
    "deepjscc-2019": "semcom.training.deepjscc2019",
    "learned-codec": "semcom.training.learned_codec",
    "prior": "semcom.training.prior",
    "refiner": "semcom.training.refiner",
}


def run_script(main: Callable[[], None]) -> None:
    """Run a script's main function; errors of a user or the machine end it with one line, not a traceback.

    Args:
        main: Function to call.
    """
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")
    except SemcomError as error:
        sys.exit(f"error: {error}")


def recipe(name: str, options: Mapping[str, Any]) -> Callable[..., float]:
    """Look up the `train` function of a recipe and bind some of its options.

    Args:
        name: Name of the recipe.
        options: Options by name.

    Returns:
        A function that trains and returns the validation score in dB.

    Raises:
        UnknownName: There is no such recipe.
        InvalidOption: The recipe does not have an option of this name.
    """
    if name not in RECIPES:
        raise UnknownName(f"no recipe called {name!r}; there are {', '.join(RECIPES)}")
    train = import_module(RECIPES[name]).train
    foreign = sorted(options.keys() - signature(train).parameters.keys())
    if foreign:
        spelled = ", ".join("--" + option.removesuffix("_db").replace("_", "-") for option in foreign)
        raise InvalidOption(f"{spelled}: not an option of {name}")
    return partial(train, **options)
