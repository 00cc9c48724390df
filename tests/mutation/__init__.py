"""Do the tests notice? Known ways to get the workqueue wrong, each put into a copy of the source.

``make mutants`` (or ``python -m tests.mutation --help``) applies the rows of `ktrio`'s tables one by one and runs the
tests of the workqueue on each copy, which must fail.
"""
