"""Shares of tokens as rates of examples: what each mixture draws from each task.

Owns the mixtures' names and rates. SeqIO draws examples, our configs speak of tokens, and a document of one task may be
a hundred times as long as one of another; so a rate is a share divided by the mean length of the task's documents. The
lengths are estimated from the bytes in the manifest. The rows that are trained on follow the shares exactly, as `pack`
counts tokens; these mixtures serve to look at data and to try things.
"""

import fnmatch
from collections.abc import Iterable, Mapping

from ml_collections import ConfigDict

from data_tasks.sizes import Size
from emma_jax import languages, shares


def resolved(pack: ConfigDict) -> dict[str, ConfigDict]:
    """The components of config.pack, each with its tokens as a number: those with a share have it of pack.tokens.

    Raises ValueError if a component has neither, or both, or if the shares are more than the whole.

    >>> from configs import base
    >>> pack = base.get_config().pack
    >>> pack.tokens, pack.components.code = 2000, base.component("code.*", share=15.0)
    >>> resolved(pack)["code"].tokens
    300
    """
    found, whole = {}, sum(section.share for section in pack.components.values())
    if whole > 100.01:
        shares_of = ", ".join(f"{name} {section.share:g}" for name, section in pack.components.items())
        raise ValueError(f"the shares of config.pack.components are {whole:g}% in all ({shares_of}); lower one of them")
    for name, section in pack.components.items():
        if section.share < 0:
            raise ValueError(f"config.pack.components.{name}.share is {section.share:g}; it must be 0 or more")
        tokens = round(section.share / 100 * pack.tokens) if section.share else section.tokens
        if bool(section.share) == bool(section.tokens) or tokens <= 0:
            raise ValueError(
                f"config.pack.components.{name} has tokens={section.tokens:,} and share={section.share:g} of "
                f"config.pack.tokens={pack.tokens:,}; give it either tokens, or a share and config.pack.tokens"
            )
        found[name] = ConfigDict(dict(section, tokens=tokens, share=0.0))
    return found


def effective(section: ConfigDict) -> dict[str, object]:
    """What of a component's section tells its rows: all but the values that its policy does not look at.

    >>> from configs import base
    >>> sorted(base.component("*", 1, "unimax").keys() - effective(base.component("*", 1, "unimax")).keys())
    ['multipliers', 'temperature']
    """
    unused = {"temperature": "temperature", "multipliers": "resource_class"}
    return {key: value for key, value in section.to_dict().items() if unused.get(key, section.policy) == section.policy}


def rates(
    sizes: Mapping[str, Size],
    classes: Mapping[str, str],
    mixture: Mapping[str, float],
    components: Mapping[str, ConfigDict],
) -> dict[str, dict[str, float]]:
    """For each mixture its tasks' rates of examples; `classes` are of those tasks that have a resource class.

    `component.<name>` for each component. Of the declared `mixture` of components, two: `bilingual`, as declared, if
    any of its components has pairs; and `monolingual`, without those components, the others in unchanged proportion
    (the paper's Mix 1 and Mix 2). Either is left out where nothing is in it.

    Raises ValueError if a component matches no task, if the mixture names a component that is not there, or a share is
    not positive.

    >>> from configs import base
    >>> sizes = {"mono.deu_Latn": Size(10, 3960), "mono.eng_Latn": Size(40, 3840)}
    >>> rates(sizes, {}, {}, {"all": base.component("*", 1000)})
    {'component.all': {'mono.deu_Latn': 0.005, 'mono.eng_Latn': 0.02}}
    """
    drawn = {name: _component_rates(name, section, sizes, classes) for name, section in components.items()}
    for name, share in mixture.items():
        if name not in drawn:
            near = languages.nearest(name, drawn)
            raise ValueError(f"config.mixture has {name!r}, which is no component in config.pack.components{near}")
        if not share > 0:
            raise ValueError(
                f"config.mixture.{name} is {share}; a share must be positive, and what is not to be read is left out"
            )
    parallel = {name for name in mixture if any(task.startswith("pair.") for task in drawn[name])}
    whole = {
        "monolingual": {name: share for name, share in mixture.items() if name not in parallel},
        "bilingual": dict(mixture) if parallel else {},
    }
    named = {f"component.{name}": rate for name, rate in drawn.items()}
    return named | {name: _mixed(parts, drawn) for name, parts in whole.items() if parts}


def matching(component: str, pattern: str, tasks: Iterable[str]) -> list[str]:
    """Names of the tasks that a component's glob matches, in order.

    Raises ValueError if there is none, naming the nearest.

    >>> matching("swahili", "*.*swh*", ["mono.swh_Latn", "mono.deu_Latn", "pair.eng_Latn-swh_Latn"])
    ['mono.swh_Latn', 'pair.eng_Latn-swh_Latn']
    """
    found = fnmatch.filter(tasks, pattern)
    if not found:
        near = languages.nearest(pattern, tasks)
        raise ValueError(f"config.pack.components.{component} matches no task of the corpus with {pattern!r}{near}")
    return found


def _component_rates(name, section, sizes: Mapping[str, Size], classes: Mapping[str, str]) -> dict[str, float]:
    """Examples of each task for one token of the component."""
    tasks = matching(name, section.tasks, sizes)
    task_sizes, task_classes = [sizes[task].tokens for task in tasks], [classes.get(task, "") for task in tasks]
    try:
        tokens = shares.divide(task_sizes, task_classes, section.tokens, section)
    except ValueError as error:
        raise ValueError(f"config.pack.components.{name}: {error}") from error
    if not tokens.any() and any(task_sizes):
        raise ValueError(
            f"config.pack.components.{name}: its multipliers are 0 for all classes of {section.tasks!r}; "
            f"its tasks are {', '.join(sorted(set(filter(None, task_classes)))) or 'of no class'}"
        )
    if not tokens.any():
        raise ValueError(f"config.pack.components.{name} has no documents to train on; look at {section.tasks!r}")
    return {
        task: share * sizes[task].documents / sizes[task].tokens
        for task, share in zip(tasks, (tokens / tokens.sum()).tolist(), strict=True)
        if share
    }


def _mixed(parts: Mapping[str, float], drawn: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Rates of a mixture of components by their shares of tokens; a task may be in several of them."""
    mixed: dict[str, float] = {}
    for component, share in parts.items():
        for task, rate in drawn[component].items():
            mixed[task] = mixed.get(task, 0.0) + share / sum(parts.values()) * rate
    return mixed
