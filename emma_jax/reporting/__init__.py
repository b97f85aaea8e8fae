"""The parts of a report: evidence, tables, figures, page. `emma_jax.report` puts them together."""
