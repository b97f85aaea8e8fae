"""How every program starts and how it fails: flags, the check of a config against `configs/base.py`, exit status.

Owns no behaviour of any program. A user's mistake, raised anywhere as ValueError or OSError, ends here as one sentence
on stderr and exit status 2; everything else is a defect of ours and keeps its traceback.
"""

import atexit
import difflib
import functools
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

USER_MISTAKE = 2
INTERRUPTED = 130  # as shells have it: 128 and the number of the signal
NO_CONFIG = "which run? name its config: --config=configs/quickstart.py"
_failed = threading.Event()
FREE_SECTIONS = ("corpus.sources", "pack.components", "mixture")  # keys of these are the user's own names


def run(
    main: Callable,
    *,
    config: bool | str = True,
    flag_help: Mapping[str, str] | None = None,
    switch_help: Mapping[str, str] | None = None,
    positional: str = "",
    more: str = "",
):
    """Calls `main(config, **flags)` with what the command line says and exits; never returns.

    `config` says whether there is a config, or names the file of the one that is taken if none is given. `flag_help`
    maps string flags to their help; a flag that is not given arrives as "". `switch_help` is of flags that are given or
    not, and arrive as that. With `positional`, one argument without a dash is required and arrives under that name;
    with `more`, those after it arrive as a tuple.
    """
    own = [*(flag_help or {}), *(switch_help or {})]
    _define_flags(flag_help or {}, switch_help or {}, config)

    def parse(arguments: list[str]) -> list[str]:
        try:
            rest = flags.FLAGS(arguments)
            if config and flags.FLAGS.config is not None:
                flags.FLAGS.config.keys()  # a config file that cannot be loaded fails only here
            return rest
        except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, ImportError) as error:
            _fail(_flags_error(arguments, error))

    def start(arguments: list[str]) -> None:
        values = {name: getattr(flags.FLAGS, name) for name in own}
        try:
            if len(arguments) < 1 + bool(positional) or (not more and len(arguments) > 1 + bool(positional)):
                raise ValueError(
                    f"expected {'one ' + positional if positional else 'no argument without a dash'}, "
                    f"got {arguments[1:]}; --help lists the flags"
                )
            if positional:
                values[positional] = arguments[1]
            if more:
                values[more] = tuple(arguments[2:])
            main(*_config() if config else (), **values)
        except (ValueError, OSError) as error:
            logging.debug("the mistake was found here", exc_info=True)
            _fail(str(error))
        except (KeyboardInterrupt, RuntimeError) as error:
            # Beam hands an interruption on as the text of another error.
            if not isinstance(error, KeyboardInterrupt) and "KeyboardInterrupt" not in str(error):
                raise
            print("interrupted; the same command goes on from here", file=sys.stderr)
            sys.exit(INTERRUPTED)

    logging.set_verbosity(logging.INFO)
    logging.use_absl_handler()
    logging.get_absl_handler().addFilter(_is_for_the_user)
    atexit.register(_leave_if_failed)
    sys.argv[:] = _with_equals(sys.argv)  # where config_flags looks for the file, too
    app.run(start, flags_parser=parse)


def _define_flags(flag_help: Mapping[str, str], switch_help: Mapping[str, str], config: bool | str) -> None:
    for name, text in flag_help.items():
        flags.DEFINE_string(name, "", text)
    for name, text in switch_help.items():
        flags.DEFINE_boolean(name, False, text)
    if config:
        default = config if isinstance(config, str) else None
        config_flags.DEFINE_config_file("config", default, "the run, as FILE.py[:argument]", lock_config=True)
    for name in [*flag_help, *switch_help, *(["config"] if config else [])]:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])  # so that --help shows it


def require_extra(extra: str, *modules: str) -> None:
    """Raises ValueError that names the extra to install if one of `modules` is missing.

    >>> require_extra("data", "json")
    >>> require_extra("data", "no_such_module")
    Traceback (most recent call last):
    ValueError: this needs no_such_module, which is not installed: pip install -e '.[data]'
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise ValueError(f"this needs {', '.join(missing)}, which is not installed: pip install -e '.[{extra}]'")


def check_config(
    config: ConfigDict, reference: ConfigDict, free: Sequence[str] = FREE_SECTIONS, within: str = ""
) -> None:
    """Raises ValueError at the first key of `config` that `reference` lacks, or lacks itself, or types otherwise.

    Sections in `free` are not looked into; `within` is the name of the section that both are.

    >>> check_config(ConfigDict({"train": {"step": 1}}), ConfigDict({"train": {"steps": 1}}))
    Traceback (most recent call last):
    ValueError: config has no key train.steps; is train.step meant to be it?
    """
    found, expected = dict(_leaves(config, free, within)), dict(_leaves(reference, free, within))
    for key in expected.keys() - found.keys():
        raise ValueError(f"config has no key {key}{_nearest(key, found.keys() - expected.keys(), 'meant to be it')}")
    for key in found.keys() - expected.keys():
        raise ValueError(f"config key {key} is not known{_nearest(key, expected, 'meant')}")
    for key, value in found.items():
        kinds = (int, float) if isinstance(expected[key], float) else (type(expected[key]),)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ValueError(f"config.{key} is {value!r}; expected {kinds[-1].__name__}, as {expected[key]!r}")


def _is_for_the_user(record) -> bool:
    """Whether to print a log line: ours, and errors of libraries without their tracebacks; none after the last word."""
    if _failed.is_set():
        return False
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if record.pathname.startswith(ours + os.sep) and "site-packages" not in record.pathname:
        return True
    record.exc_info = None
    return record.levelno >= logging.converter.STANDARD_ERROR


def _config() -> tuple[ConfigDict]:
    from configs import base  # only here: the defaults are the user's folder, not a dependency of the package

    config = flags.FLAGS.config
    if config is None:
        raise ValueError(NO_CONFIG)
    check_config(config, base.get_config())
    for section, example in base.entries().items():
        for name, entry in functools.reduce(getattr, section.split("."), config).items():
            check_config(ConfigDict({name: entry}), ConfigDict({name: example}), free=(), within=f"{section}.")
    return (config,)


def _leaves(config: ConfigDict, free: Sequence[str] = FREE_SECTIONS, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in config.items():
        name = prefix + key
        if isinstance(value, ConfigDict) and name not in free:
            yield from _leaves(value, free, name + ".")
        else:
            yield name, value


def _nearest(key: str, known, question: str) -> str:
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f"; is {near[0]} {question}?" if near else ""


def _with_equals(arguments: list[str]) -> list[str]:
    """The arguments with `--config FILE` as `--config=FILE`, before all others: its overrides need the file.

    >>> _with_equals(["train.py", "--config.seed=1", "--config", "a.py", "--workdir=b"])
    ['train.py', '--config=a.py', '--config.seed=1', '--workdir=b']
    """
    if "--config" in arguments[:-1]:
        at = arguments.index("--config")
        arguments = arguments[:at] + [f"--config={arguments[at + 1]}"] + arguments[at + 2 :]
    return arguments[:1] + sorted(arguments[1:], key=lambda argument: not argument.startswith("--config="))


def _flags_error(arguments: list[str], error: Exception) -> str:
    """What was wrong with the flags, the config file or an override, naming the nearest key where one is unknown."""
    file = next((a.split("=", 1)[1] for a in arguments if a.startswith("--config=")), "")
    if file and not os.path.exists(file.split(":")[0]):
        return f"there is no config file {file.split(':')[0]}"
    overridden = [a.removeprefix("--config.").split("=")[0] for a in arguments if a.startswith("--config.")]
    if overridden and not file:
        return NO_CONFIG
    config = _loaded(file) if overridden else None
    faults = [_override_fault(key, config) for key in overridden] if config is not None else []
    if any(faults):
        return next(filter(None, faults))
    # config_flags puts the traceback of a config file into its message; its last line is the sentence.
    sentence = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
    return sentence.removeprefix("ValueError: ").removeprefix("flag --")


def _loaded(file: str) -> ConfigDict | None:
    """The config without overrides; None if it cannot be loaded, which then is the error to tell of."""
    try:
        config = flags.FLAGS["config"].parser.parse(file)
    except Exception:  # of the user's file, which may raise anything
        return None
    return config if isinstance(config, ConfigDict) else None


def _override_fault(key: str, config: ConfigDict) -> str:
    """Why a key of the config cannot be set at the command line, and the way out; "" if it can.

    >>> config = ConfigDict({"mixture": {"english": 1.0}, "train": {"steps": 1}})
    >>> for key in ("train.step", "train", "mixture.englich", "mixture.english"):
    ...     print(_override_fault(key, config))
    config key train.step is not known; is train.steps meant?
    config.train cannot be set as a whole; set a key of it: --config.train.steps=...
    config.mixture has no 'englich' to set; is english meant? A config file can add it: config.mixture.englich = ...
    <BLANKLINE>
    """
    found, path = config, ""
    for word in key.split("."):
        if not isinstance(found, ConfigDict) or word not in found:
            if path not in FREE_SECTIONS:
                return f"config key {key} is not known{_nearest(key, dict(_leaves(config, free=())), 'meant')}"
            near = _nearest(word, found, "meant")
            add = f"config file can add it: config.{path}.{word} = ..."
            return f"config.{path} has no {word!r} to set{f'{near} A' if near else '; a'} {add}"
        found, path = found[word], f"{path}.{word}".lstrip(".")
    if not isinstance(found, ConfigDict):
        return ""
    leaf = next((name for name, _ in _leaves(found, (), f"{path}.")), "")
    way_out = f"set a key of it: --config.{leaf}=..." if leaf else "a config file can add to it"
    return f"config.{path} cannot be set as a whole; {way_out}"


def _leave_if_failed() -> None:
    """Ends the process, once all else that is done at exit is done, without taking Python down.

    What a library left undone when something failed may complain then, after the one sentence that the user needs.
    """
    if _failed.is_set():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(USER_MISTAKE)


def _fail(message: str) -> None:
    # What libraries that were at work still say is of no use any more: neither logged nor printed.
    _failed.set()
    sys.unraisablehook = threading.excepthook = lambda _: None
    print(f"error: {message}", file=sys.stderr)
    sys.exit(USER_MISTAKE)
