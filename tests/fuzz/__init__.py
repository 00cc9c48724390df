"""Any bytes whatsoever, against the parsers and the whole connection.

`targets.py` says for each target what must hold of any input. Three drivers bring the input: `test_fuzz.py`
(hypothesis, in every run of the tests), `python -m tests.fuzz` (atheris, by coverage, as long as one likes), and the
same without atheris, blindly. An input that has found something goes to ``found/TARGET/NAME.bin``, and is tried by
`test_fuzz.py` ever after.
"""
