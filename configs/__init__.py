"""Run configurations: each file is the record of an experiment."""
