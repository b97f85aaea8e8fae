"""The benchmarks as tasks of lm-evaluation-harness: a template (YAML) for each, and what the templates call.

`evaluation.benchmarks` makes a task for each language of a template. Tasks that the harness has itself are not here.
"""
