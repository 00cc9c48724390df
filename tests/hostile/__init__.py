"""What hostile peers send, class by class, each attack with its source and with what ktrio answers.

The rows are data; `test_*.py` send them to the whole server, and `python -m tests.hostile` writes
``docs/spec/hostile-input.md`` from them.
"""
