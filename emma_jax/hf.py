"""Models from and to Hugging Face's format: `python -m emma_jax.hf import|export --from=FOLDER --to=FOLDER`.

`import` makes a workdir of a folder of safetensors, `export` the reverse; `conversion` does it. `verify FOLDER FOLDER`
says whether two folders, of either kind, hold the same model; `verification` does it.
"""

import os
import sys

import jax

from emma_jax import command_line, conversion, verification

VERBS = ("import", "export", "verify")


def main(verb: str, folders: tuple[str, ...] = (), logits: str = "", distributed: str = "", **flags: str) -> None:
    """Runs the verb: on `--from` and `--to`, or `verify` on two `folders`."""
    source, target, dtype = flags["from"], flags["to"], flags["dtype"]
    if verb not in VERBS:
        raise ValueError(f"{verb!r} is no verb; known are {', '.join(VERBS)}")
    if logits not in ("", "yes", "no"):
        raise ValueError(f"--logits is {logits!r}; expected yes or no")
    if distributed not in ("", "yes", "no"):
        raise ValueError(f"--distributed is {distributed!r}; expected yes or no")
    if verb == "verify":
        if len(folders) != 2 or source or target or dtype or distributed:
            raise ValueError(f"verify needs two folders and no flag but --logits, it has {' '.join(folders) or 'none'}")
        verification.verify(*folders, with_logits=logits != "no")
        return
    if folders:
        raise ValueError(f"{verb} needs --from=FOLDER and --to=FOLDER, and nothing like {folders[0]!r} without a dash")
    if not source or not target:
        raise ValueError(f"{verb} needs both --from=FOLDER and --to=FOLDER")
    if verb == "import" and dtype:
        raise ValueError("--dtype belongs to export; an import keeps every value as it is stored")
    if any(path.startswith("gs://") for path in (source, target)):
        command_line.require_extra("tpu", "gcsfs")
    if distributed == "yes":
        jax.distributed.initialize()
    if verb == "import":
        conversion.import_hf(source, target)
    else:
        conversion.export_hf(source, target, dtype or "bfloat16")


def use_huge_pages() -> None:
    """Starts the program anew, unless it was, with a C library that asks for memory in huge pages.

    Arrays come and go, and clearing small pages for them takes longer than reading and writing the files: measured at
    8B with memory scarce, an export takes 57 s with them and 31 s without.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, [sys.executable, "-m", "emma_jax.hf", *sys.argv[1:]])


if __name__ == "__main__":
    use_huge_pages()
    command_line.run(
        main,
        config=False,
        flag_help={
            "from": "import: a Hugging Face folder; export: WORKDIR or WORKDIR@STEP",
            "to": "import: a new workdir; export: a new folder",
            "logits": "verify: yes (default), where transformers is installed, or no",
            "distributed": "import, export: yes if this program was started on every host of a pod, or no (default)",
            "dtype": "export: bfloat16 (default), or float32 for the parameters as they are",
        },
        positional="verb",
        more="folders",
    )
