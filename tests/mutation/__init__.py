"""Do the tests notice? Known ways to get the workqueue and HTTP wrong, each put into a copy of the source.

``make mutants`` (or ``python -m tests.mutation --help``) applies the rows of `ktrio`'s tables one by one and runs the
tests of what they are about on each copy, which must fail.
"""
