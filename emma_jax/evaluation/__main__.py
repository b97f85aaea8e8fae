"""lm-evaluation-harness with our model and our tasks: `python -m emma_jax.evaluation --model emma_jax …`.

Everything else is the harness's own command line; `run --help` lists it. Data of our tasks is in a folder if
`--metadata data=DIR` names one.
"""

import sys

from absl import logging

from emma_jax import command_line


def main() -> None:
    """Runs the harness's command line; a user's mistake ends as one sentence."""
    logging.set_verbosity(logging.INFO)
    logging.use_absl_handler()
    try:
        command_line.require_extra("eval", "lm_eval")
        import lm_eval.tasks
        from lm_eval.__main__ import cli_evaluate

        from emma_jax.evaluation import benchmarks, language_model

        assert language_model.LanguageModel  # importing it makes the model known to the harness
        lm_eval.tasks.TaskManager = benchmarks.TaskManager
        cli_evaluate()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(command_line.USER_MISTAKE)


if __name__ == "__main__":
    main()
