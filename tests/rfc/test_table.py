"""The table of clauses is what the tests say, and no test here is about nothing."""

from __future__ import annotations

import ast
import re

from tests.rfc.table import CHAPTERS, HERE, PAGE, all_clauses, page_with, render

FILE = re.compile(r"test_(\d{4})_(\d\d)_\w+\.py")


def test_page_has_the_table_that_the_tests_make():
    """After a change here: ``make clauses``."""
    assert PAGE.read_text(encoding="utf-8") == page_with(render(all_clauses()))


def test_breadth_is_by_clause():
    clauses = all_clauses()
    assert len(clauses) >= 150
    sentences = [(each.rfc, each.section, each.sentence) for each in clauses]
    assert len(set(sentences)) == len(sentences)
    assert {(each.rfc, each.section[0]) for each in clauses} == {
        (rfc, chapter) for rfc, chapters in CHAPTERS.items() for chapter in chapters
    }


def test_every_test_says_which_clause_it_is_about_and_stands_in_its_chapter():
    by_file = {}
    for each in all_clauses():
        by_file.setdefault(each.file, []).append(each)
    for path in HERE.glob("test_9*.py"):
        rfc, chapter = FILE.fullmatch(path.name).groups()
        assert {(each.rfc, each.section[0]) for each in by_file[path.name]} == {(rfc, int(chapter))}, path.name
        tests = {
            node.name
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        }
        assert tests == {each.test for each in by_file[path.name]}, path.name


def test_sentences_are_sentences():
    for each in all_clauses():
        assert 25 <= len(each.sentence) <= 200, each
        assert not each.sentence.endswith("."), each
        assert "\n" not in each.sentence
