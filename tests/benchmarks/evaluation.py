"""Our model in lm-evaluation-harness against the harness's own backend for transformers, and its step on TPUs: by hand.

    python tests/benchmarks/evaluation.py agreement --model=HF_DIR --data=DIR --tasks=sib200,xcopa,mgsm_direct
    python tests/benchmarks/evaluation.py speed --model=HF_DIR --data=DIR
    python tests/benchmarks/evaluation.py decode --topology=v5e:2x2

`agreement` compares each answer to each request, and what a task makes of them; `speed` prints ratios within one run,
ours first and second in turn; `decode` compiles a chunk of decoding steps of Llama 3 8B and prints its memory, and its
time, by the compiler's own estimates, against reading weights and cache once.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import lm_eval
from lm_eval.api.instance import Instance
from ml_collections import FrozenConfigDict

from configs import bilingual
from emma_jax import compiled_cost, decoding, program, scoring, sharding, tpu_topology
from emma_jax.evaluation import benchmarks
from emma_jax.evaluation.language_model import LanguageModel
from emma_jax.responses import Responses

TIE = 1e-3  # of the margin between the best two choices: less may fall out either way
GIB = 2**30


def main() -> None:
    """Runs one of the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("agreement", "speed", "decode"))
    parser.add_argument("--model", help="a Hugging Face folder in float32")
    parser.add_argument("--data", default="tests/fixtures/benchmarks")
    parser.add_argument("--tasks", default="sib200,xcopa,mgsm_direct")
    parser.add_argument("--languages", default="")
    parser.add_argument("--limit", type=int, default=20, help="items of a task")
    parser.add_argument("--max_new_tokens", type=int, default=64)
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--length", type=int, default=2048, help="of the cache")
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    {"agreement": agreement, "speed": speed, "decode": decode}[options.what](options)


def their_model(folder: str, batch_size: int):
    """The harness's backend for transformers, on this machine's CPU."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=folder, device="cpu", dtype="float32", batch_size=batch_size)


def load_tasks(options) -> dict:
    """The harness's tasks by name."""
    names, languages = ([part for part in text.split(",") if part] for text in (options.tasks, options.languages))
    chosen = benchmarks.select(names, languages, options.data)
    manager = benchmarks.TaskManager(include_defaults=False, metadata={"pretrained": options.model})
    return manager.load([task.config for task in chosen])["tasks"]


def agreement(options) -> None:
    """Prints for each task on how many items both agree, and how far the log-likelihoods are apart."""
    samples = []
    for model in (LanguageModel(options.model), their_model(options.model, 8)):
        tasks = load_tasks(options)
        for task in tasks.values():
            if task.OUTPUT_TYPE == "generate_until":
                task.set_config(key="generation_kwargs", value={"max_gen_toks": options.max_new_tokens}, update=True)
        groups = {"tasks": tasks, "groups": {}, "group_map": {}}
        samples.append(lm_eval.evaluate(model, groups, limit=options.limit, bootstrap_iters=0)["samples"])
    print(f"{'task':<34}{'items':>6}{'agree':>6}{'near ties':>10}{'log p apart':>13}{'texts equal':>12}")
    for name, ours in samples[0].items():
        agree, ties, apart, equal = 0, 0, 0.0, 0
        theirs = samples[1][name]
        for one, other in zip(ours, theirs, strict=True):
            same = all(one[metric] == other[metric] for metric in one["metrics"])
            pairs = [(mine[0], other_[0]) for mine, other_ in zip(one["resps"], other["resps"], strict=True)]
            if isinstance(pairs[0][0], str):
                equal += pairs[0][0] == pairs[0][1]
            else:
                apart = max(apart, *(abs(mine[0] - other_[0]) for mine, other_ in pairs))
                best, second, *_ = sorted((other_[0] for _, other_ in pairs), reverse=True)
                ties += not same and best - second < TIE
            agree += same
        print(f"{name:<34}{len(ours):>6}{agree:>6}{ties:>10}{apart:>13.1e}{equal:>12}")


def speed(options) -> None:
    """Prints items per second of SIB-200 with three shots, and tokens per second of a batch of generations."""
    ours, theirs = LanguageModel(options.model, batch_size=options.slots), their_model(options.model, options.slots)
    options.tasks, options.languages = "sib200", options.languages or "swh_Latn"
    (task,) = (task for name, task in load_tasks(options).items() if "robust" in name)
    task.build_all_requests(limit=options.limit)
    choices = [request for request in task.instances if request.request_type == "loglikelihood"]
    prompts = [item.args[0] for item in choices[:: len(choices) // options.limit]][: 2 * options.slots]
    kwargs = {"until": [], "max_gen_toks": options.max_new_tokens}
    texts = [Instance("generate_until", {}, (prompt, kwargs), 0, ("speed", n, 1)) for n, prompt in enumerate(prompts)]
    for what, method, requests in (("items", "loglikelihood", choices), ("tokens", "generate_until", texts)):
        times: dict[str, list[float]] = {"ours": [], "transformers": []}
        for repeat in range(options.repeats + 1):  # the first compiles
            for name, model in (("ours", ours), ("transformers", theirs)):
                if name == "ours":
                    model.text_model._responses = Responses()
                if name == "ours" or repeat:
                    start = time.monotonic()
                    answers = getattr(model, method)(requests)
                    times[name].append(time.monotonic() - start)
        count = options.limit if what == "items" else sum(map(len, ours.text_model.encode(answers).values()))
        first, *warm = times["ours"]
        ours_per_second, theirs_per_second = (count / statistics.median(x) for x in (warm, times["transformers"]))
        print(
            f"{what}: {count}, ours {ours_per_second:.1f}/s ({count / first:.1f}/s with compiling), "
            f"transformers {theirs_per_second:.1f}/s, ratio {ours_per_second / theirs_per_second:.1f}"
        )
    print(f"programs compiled: {scoring.num_programs()} to score, {decoding.num_programs()} to generate")


def decode(options) -> None:
    """Prints memory and time of a step of decoding with Llama 3 8B, its weights split over all chips."""
    topology = tpu_topology.parse(options.topology)
    config = bilingual.get_config("llama3-8b").model
    mesh = sharding.inference_mesh(config, topology.devices())
    statics = dict(config=FrozenConfigDict(config), mesh=mesh)

    def on_mesh(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16, sharding=leaf.sharding)

    params = jax.tree.map(on_mesh, program.abstract_params(config, mesh))
    shape = (config.num_layers, options.slots, config.num_kv_heads, options.length, config.head_dim)
    cache = jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=sharding.named(mesh, decoding.CACHE_AXES, shape))
    rows = jax.ShapeDtypeStruct(
        (options.slots,), jnp.int32, sharding=sharding.named(mesh, ("batch",), (options.slots,))
    )

    def chunk(params, cache, state):
        return decoding._decode.__wrapped__(params, cache, state, decoding.NUM_STEPS, **statics)

    start = time.monotonic()
    arguments = params, dict(key=cache, value=cache), dict(tokens=rows, lengths=rows)
    compiled = jax.jit(chunk, donate_argnums=1).lower(*arguments).compile()
    seconds = time.monotonic() - start
    memory, cost = compiled.memory_analysis(), compiled_cost.read(compiled.as_text(), topology)
    milliseconds = 1e3 / decoding.NUM_STEPS
    floor = memory.argument_size_in_bytes / topology.generation.hbm_bytes_per_second * 1e3
    print(
        f"{options.topology}, {options.slots} slots of {options.length}: compiled in {seconds:.0f} s; "
        f"HBM {memory.argument_size_in_bytes / GIB:.2f} GiB of arguments, {memory.temp_size_in_bytes / GIB:.2f} "
        f"temporary; a step {cost.static_seconds * milliseconds:.2f} ms static and "
        f"{cost.exposed_collective_seconds * milliseconds:.2f} waiting; reading all once {floor:.2f} ms"
    )


if __name__ == "__main__":
    main()
