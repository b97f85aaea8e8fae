"""Corpus to packed rows: `python -m emma_jax.pack --config=configs/bilingual.py`.

Owns what is packed, what goes on where it stopped, what is done already, and says so. How much of each task goes into a
component is `pack_plan`, the work `pack_stages`, what it leaves behind `store`. Running it again does what is missing
and what was changed, and nothing else.
"""

import contextlib
import json
import os
import pathlib
import shutil
import time
from collections.abc import Mapping, Sequence

from absl import logging

from data_tasks import mixtures, sizes
from emma_jax import (
    command_line,
    exchange,
    manifest,
    pack_budget,
    pack_page,
    pack_plan,
    pack_summary,
    packing,
    paper_corpus,
    progress,
    store,
    tokenizer,
)


def main(config, plan: bool = False) -> None:
    """Packs the components of `config.pack.components`, and validation documents of all their tasks.

    With `plan`, says how much of what that would be, and writes nothing else.
    """
    check(config)
    if plan:
        write_plan(config)
        return
    command_line.require_extra("data", "seqio", "tensorflow")
    command_line.require_extra("corpus", "apache_beam")
    begun = time.monotonic()
    if config.corpus.folder == paper_corpus.NAME:
        raise ValueError(f"{paper_corpus.NAME!r} is a corpus of numbers, which can only be planned with: add --plan")
    manifest.load(config.corpus.folder)
    tokenizer.load(config.tokenizer.folder)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what TensorFlow raises is enough
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    from emma_jax import pack_draws, pack_stages  # take TensorFlow's seconds: after what is most often wrong

    job = pack_draws.Job(
        rows=config.pack.folder,
        corpus=config.corpus.folder,
        tokenizer=config.tokenizer.folder,
        sections=sections(config),
    )
    opened = pack_draws.open_tasks(job)
    components = dependencies(config, opened)
    todo = {name: values for name, values in components.items() if not is_packed(job, config, name, values)}
    plans = [plan_of(job, config, name, values) for name, values in todo.items()]
    if plans:
        with follow(job, plans):
            pack_stages.run(job, plans, config.pack.num_workers, config.pack.beam_options)
        for plan in plans:
            finish(job, plan, opened.tokenizer, pack_plan.settings(config, plan.component))
    logging.info("%d components are in %s; %.0f s", len(components), config.pack.folder, time.monotonic() - begun)


def write_plan(config) -> None:
    """Prints the plan of a config and writes it beside the rows, as numbers and as a page."""
    begun, budget = time.monotonic(), pack_budget.make(config)
    folder = pathlib.Path(config.pack.folder)
    folder.mkdir(parents=True, exist_ok=True)
    print(pack_summary.summary(budget))
    for ending, content in (("json", pack_budget.to_json(budget)), ("html", pack_page.html(budget))):
        (folder / f"plan-{budget.run}.{ending}").write_text(content, encoding="utf-8")
    logging.info(
        "%d tasks planned in %.1f s; every one of them: %s",
        len(budget.tasks), time.monotonic() - begun, folder / f"plan-{budget.run}.html",
    )  # fmt: skip


def sections(config) -> str:
    """What defines the tasks of a config, as JSON."""
    return json.dumps(
        dict(
            rendering=config.rendering.to_dict(),
            mixture=config.mixture.to_dict(),
            components={name: section.to_dict() for name, section in mixtures.resolved(config.pack).items()},
        )
    )


def check(config) -> None:
    """Raises ValueError if config.pack says something that cannot be done."""
    for key, least in dict(
        row_length=2, window_documents=1, rows_per_shard=1, validation_documents=0, num_workers=1
    ).items():
        if config.pack[key] < least:
            raise ValueError(f"config.pack.{key} is {config.pack[key]}; it must be {least} or more")
    if config.pack.packing not in packing.METHODS:
        raise ValueError(f"config.pack.packing is {config.pack.packing!r}; it can be {', '.join(packing.METHODS)}")
    if "://" in config.pack.folder:
        raise ValueError(
            f"config.pack.folder is {config.pack.folder!r}; pack writes to a disk or a mounted bucket; rows that are "
            "copied to gs:// are read from there"
        )
    if "/" in config.run_name:
        raise ValueError(f"config.run_name is {config.run_name!r}; files are called by it, so it cannot have a slash")
    if config.seed < 0:
        raise ValueError(f"config.seed is {config.seed}; it must be 0 or more")
    if not config.pack.components:
        raise ValueError("config.pack.components is empty; give at least one component tasks and tokens")
    mixtures.resolved(config.pack)
    for name in config.pack.components:
        if name == store.VALIDATION or not name.replace("_", "").replace("-", "").isalnum():
            raise ValueError(f"a component cannot be called {name!r}; take another word")


def dependencies(config, opened) -> dict[str, dict]:
    """For each component, validation too, its tasks and all else that its rows depend on."""
    pack = config.pack
    shared = dict(
        corpus=opened.corpus.fingerprint,
        tokenizer=opened.tokenizer.fingerprint,
        rendering=config.rendering.to_dict(),
        row_length=pack.row_length,
        packing=pack.packing,
        window=pack.window_documents,
        seed=config.seed,
    )
    found = {}
    for name, section in mixtures.resolved(pack).items():
        names = mixtures.matching(name, section.tasks, opened.sizes)
        found[name] = dict(shared, tasks=names, section=mixtures.effective(section), rows_per_shard=pack.rows_per_shard)
    if pack.validation_documents:
        names = sorted({name for values in found.values() for name in values["tasks"]})
        found[store.VALIDATION] = dict(shared, tasks=names, documents=pack.validation_documents)
    return found


def is_packed(job, config, component: str, values: Mapping) -> bool:
    """Whether the component's rows are there and whole; other rows are removed if config.pack.replace says so.

    Raises ValueError if a shard was lost, if the folder holds what is not rows, or finished rows of another config.
    """
    folder, fingerprint = job.folder(component), pack_plan.fingerprint(**values)
    begun = pack_plan.load(folder)
    if (folder / store.FILE).exists():
        found = store.load(job.rows, component)
        if found.fingerprint == fingerprint:
            store.check_shards(job.rows, found)
            remove_scaffold(job, component)
            logging.info("component %s is packed already: %s rows", component, f"{found.rows:,}")
            return True
        if not config.pack.replace:
            why = pack_plan.difference(found, pack_plan.settings(config, component))
            if not why and found.tokenizer != values["tokenizer"]:
                why = "were packed with another tokenizer"
            why = why or "were packed from another corpus, with another seed or other shards"
            raise ValueError(
                f"{folder} holds {found.rows:,} rows that {why}; "
                "runs may depend on them: name another folder in config.pack.folder, or add --config.pack.replace=True"
            )
        logging.info("component %s was packed from another config, corpus or tokenizer: packing it again", component)
        shutil.rmtree(folder)
    elif begun and begun.fingerprint != fingerprint:
        logging.info("component %s was begun with another config, corpus or tokenizer: packing it anew", component)
        shutil.rmtree(folder)
    elif not begun and any(path.suffix != ".tmp" for path in folder.glob("*")):
        raise ValueError(f"{folder} holds files but no rows; move them away or choose another config.pack.folder")
    return False


def plan_of(job, config, component: str, values: Mapping) -> pack_plan.Plan:
    """The plan of a component: as it was begun, or a new one, which is kept so that the work can be interrupted."""
    from emma_jax import pack_draws

    folder, fingerprint, opened = job.folder(component), pack_plan.fingerprint(**values), pack_draws.open_tasks(job)
    plan = pack_plan.load(folder)
    if plan:
        logging.info("component %s goes on where it stopped", component)
    elif component == store.VALIDATION:
        draws = pack_draws.validation_draws(opened, values["tasks"], config.pack.validation_documents)
        plan = pack_plan.validation_plan(draws, config.pack, fingerprint, config.seed)
        logging.info("plan of %s: up to %d documents of %d slices", component, values["documents"], len(draws))
    else:
        found, section = {}, mixtures.resolved(config.pack)[component]
        with progress.follow(f"tasks of {component} measured", len(values["tasks"]), lambda: len(found)):
            for name in values["tasks"]:
                size = opened.sizes[name]
                found[name] = sizes.measured(opened.corpus, opened.tokenizer, config.rendering, name, size).tokens
        classes = {name: opened.corpus.tasks[name].resource_class for name in found}
        plan = pack_plan.training_plan(component, section, found, classes, config.pack, fingerprint, config.seed)
        tell(plan, section)
    folder.mkdir(parents=True, exist_ok=True)
    pack_plan.write(folder, plan)
    job.exchange(component).mkdir(exist_ok=True)
    return plan


def remove_scaffold(job, component: str) -> None:
    """Removes what was needed to make the rows and is not part of them."""
    shutil.rmtree(job.exchange(component), ignore_errors=True)
    (job.folder(component) / pack_plan.FILE).unlink(missing_ok=True)


def tell(plan: pack_plan.Plan, section) -> None:
    """Logs what will be drawn, and whether it is less than was wanted."""
    wanted, size = sum(draw.tokens for draw in plan.draws), sum(draw.size for draw in plan.draws)
    epochs = sorted((draw.tokens / draw.size, draw.name) for draw in plan.draws)
    logging.info(
        "plan of %s: %s tokens out of %s in %d tasks, from %.2f epochs (%s) to %.2f (%s), in %d shards",
        plan.component, f"{wanted:,}", f"{size:,.0f}", len(plan.draws), *epochs[0], *epochs[-1], plan.num_shards,
    )  # fmt: skip
    if wanted < 0.999 * section.tokens:
        logging.warning(
            "component %s will have %s tokens, not %s: its tasks have no more in max_epochs=%g",
            plan.component, f"{wanted:,}", f"{section.tokens:,}", section.max_epochs,
        )  # fmt: skip


@contextlib.contextmanager
def follow(job, plans: Sequence[pack_plan.Plan]):
    """Logs how far both stages are."""

    def drawn() -> int:
        return sum(exchange.count_finished(job.exchange(plan.component)) for plan in plans)

    def written() -> int:
        return sum((job.folder(p.component) / p.shard_file(n)).exists() for p in plans for n in range(p.num_shards))

    with (
        progress.follow("tasks drawn", sum(len(plan.draws_by_task()) for plan in plans), drawn),
        progress.follow("shards written", sum(plan.num_shards for plan in plans), written),
    ):
        yield


def finish(job, plan: pack_plan.Plan, vocabulary: tokenizer.Tokenizer, settings: Mapping[str, object]) -> None:
    """Writes store.json, which says that the component is packed, and removes what was needed on the way."""
    counts = exchange.counts(job.exchange(plan.component))
    folder = job.folder(plan.component)
    shards = tuple(store.read_shard(str(folder / plan.shard_file(number))) for number in range(plan.num_shards))
    described = tuple(
        store.Task(
            name=draw.name,
            share=draw.share,
            epochs=counts[number]["tokens"] / draw.size if draw.size else 0.0,
            **counts[number],
        )
        for number, draw in enumerate(plan.draws)
    )
    rows, tokens = sum(shard.rows for shard in shards), sum(task.tokens for task in described)
    packed = store.Store(
        component=plan.component,
        fingerprint=plan.fingerprint,
        tokenizer=vocabulary.fingerprint,
        vocab_size=vocabulary.vocab_size,
        row_length=plan.row_length,
        rows=rows,
        tokens=tokens,
        fill=tokens / (rows * plan.row_length) if rows else 0.0,
        shards=shards,
        tasks=described,
        settings=settings,
    )
    store.write(job.rows, packed)
    remove_scaffold(job, plan.component)
    logging.info(
        "component %s is packed: %s rows of %d, %s tokens (fill %.1f%%), %d tasks",
        plan.component, f"{rows:,}", plan.row_length, f"{tokens:,}", 100 * packed.fill, len(described),
    )  # fmt: skip


if __name__ == "__main__":
    command_line.run(main, switch_help={"plan": "say what would be packed, and pack nothing"})
