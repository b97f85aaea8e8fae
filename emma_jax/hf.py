"""Models from and to Hugging Face's format: `python -m emma_jax.hf import|export --from=FOLDER --to=FOLDER`.

`import` makes a workdir of a folder of safetensors, `export` the reverse; `conversion` does it.
"""

from emma_jax import command_line, conversion, sharding

VERBS = ("import", "export")


def main(verb: str, **folders: str) -> None:
    """Runs the verb on `--from` and `--to`."""
    source, target, dtype = folders["from"], folders["to"], folders["dtype"]
    if verb not in VERBS:
        raise ValueError(f"{verb!r} is no verb; known are {', '.join(VERBS)}")
    if not source or not target:
        raise ValueError(f"{verb} needs both --from=FOLDER and --to=FOLDER")
    if verb == "import" and dtype:
        raise ValueError("--dtype belongs to export; an import keeps every value as it is stored")
    mesh = sharding.make_mesh(dict(data=1, fsdp=-1, tensor=1))
    if verb == "import":
        conversion.import_hf(source, target, mesh)
    else:
        conversion.export_hf(source, target, dtype or "bfloat16", mesh)


if __name__ == "__main__":
    command_line.run(
        main,
        config=False,
        flag_help={
            "from": "import: a Hugging Face folder; export: WORKDIR or WORKDIR@STEP",
            "to": "import: a new workdir; export: a new folder",
            "dtype": "export: bfloat16 (default), or float32 for the parameters as they are",
        },
        positional="verb",
    )
