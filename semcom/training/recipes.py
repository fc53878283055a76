"""Training recipes by name, for the command line."""

import logging
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from semcom.errors import InvalidOption, SemcomError, UnknownName

RECIPES = {
    "deepjscc": "semcom.training.deepjscc",
    "deepjscc-perceptual": "semcom.training.perceptual",
    "deepjscc-2019": "semcom.training.deepjscc2019",
    "learned-codec": "semcom.training.learned_codec",
    "prior": "semcom.training.prior",
    "refiner": "semcom.training.refiner",
    "prediction": "semcom.training.prediction",
    "straightening": "semcom.training.straightening",
}


def run_script(main: Callable[[], None]) -> None:
    """Run a script's main function, with a line of progress on stderr at every validation.

    Errors of a user or the machine end it with one line, not a traceback.

    Args:
        main: Function to call.
    """
    logging.basicConfig(format="%(message)s")
    logging.getLogger("semcom.training").setLevel(logging.INFO)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")
    except SemcomError as error:
        sys.exit(f"error: {error}")


def recipe_parser(description: str | None, train: Callable[..., float], seconds: float) -> ArgumentParser:
    """Make a parser of the arguments that all recipes share, for a script that trains by one of them.

    Args:
        description: Docstring of the script, shown as it is.
        train: Function of the recipe; its defaults are those of the arguments.
        seconds: Default of the duration in wall-clock seconds.

    Returns:
        The parser, to which the script adds the arguments of its own.
    """
    default = {name: parameter.default for name, parameter in signature(train).parameters.items()}
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--seconds", type=float, default=seconds, help="wall-clock length")
    add("--out", type=Path, required=True, help="folder of checkpoint, curve and weights")
    add("--photos", type=Path, default=default["photos"], help="folder or shard")
    add("--validation", type=Path, default=default["validation"], help="folder or shard")
    add("--batch", type=int, default=default["batch"])
    add("--crop", type=int, default=default["crop"], help="side in pixels")
    add("--learning-rate", type=float, default=default["learning_rate"])
    add("--device", default=default["device"])
    add("--start", type=Path, help="weights to start from")
    return parser


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
