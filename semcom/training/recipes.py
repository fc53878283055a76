"""Names to recipes, for the command line."""

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
    """Call it, and end with one line instead of a traceback where a user or the machine is at fault."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")
    except SemcomError as error:
        sys.exit(f"error: {error}")


def recipe(name: str, options: Mapping[str, Any]) -> Callable[..., float]:
    """The `train` function of a recipe with some of its options, which returns the validation score in dB.

    Raises:
        UnknownName: No such recipe.
        InvalidOption: One that this recipe does not have.
    """
    if name not in RECIPES:
        raise UnknownName(f"no recipe called {name!r}; there are {', '.join(RECIPES)}")
    train = import_module(RECIPES[name]).train
    foreign = sorted(options.keys() - signature(train).parameters.keys())
    if foreign:
        spelled = ", ".join("--" + option.removesuffix("_db").replace("_", "-") for option in foreign)
        raise InvalidOption(f"{spelled}: not an option of {name}")
    return partial(train, **options)
