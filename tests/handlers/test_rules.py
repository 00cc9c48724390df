"""The rules file: what it says, what it may not say, and that every error names its place and a remedy."""

from __future__ import annotations

import pytest

from ktrio.handlers.files import files
from ktrio.handlers.rules import CacheRule, HeaderRule, Redirect, Rules, RulesError, read_rules, rules_of

ALL = """
[[redirect]]
from = "/old/**"
to = "/new/$1"
status = 308

[[header]]
path = "/**"
set = { X-Frame-Options = "DENY", X-Content-Type-Options = "" }

[[cache]]
path = "*.js"
control = "public, max-age=60"
"""


def test_a_rules_file_is_read_into_records(tmp_path):
    (tmp_path / "rules.toml").write_text(ALL)
    assert read_rules(tmp_path / "rules.toml") == Rules(
        redirects=(Redirect(pattern="/old/**", to="/new/$1", status=308),),
        headers=(HeaderRule(pattern="/**", fields=(("x-frame-options", "DENY"), ("x-content-type-options", ""))),),
        caches=(CacheRule(pattern="*.js", control="public, max-age=60"),),
    )


def test_an_empty_file_has_no_rules(tmp_path):
    (tmp_path / "rules.toml").touch()
    assert read_rules(tmp_path / "rules.toml") == Rules()


BAD = {
    # what is written, and what its line has to name
    "no-toml": ("[[redirect]\n", ["line 1", "TOML"]),
    "twice": ("[[redirect]]\nfrom='/a'\nfrom='/b'\nto='/c'", ["line 3"]),
    "unknown-table": ("[[redirects]]\nfrom='/a'\nto='/b'", ["'redirects'", "[[redirect]]"]),
    "one-bracket": ("[redirect]\nfrom='/a'\nto='/b'", ["[[redirect]]", "two brackets"]),
    "no-table": ("redirect = [1]", ["[[redirect]]"]),
    "unknown-key": ("[[redirect]]\nfrom='/a'\nto='/b'\ncode=301", ["[[redirect]] number 1", "'code'"]),
    "no-from": (
        "[[redirect]]\nfrom='/a'\nto='/b'\n[[redirect]]\nto='/b'",
        ["[[redirect]] number 2", "'from'", "missing"],
    ),
    "from-is-no-text": ("[[redirect]]\nfrom=1\nto='/b'", ["'from'", "quotes"]),
    "from-is-encoded": ("[[redirect]]\nfrom='/a%20b'\nto='/b'", ["'/a%20b'", "as they are on the disk"]),
    "status-is-none": ("[[redirect]]\nfrom='/a'\nto='/b'\nstatus=200", ["'status'", "301", "200"]),
    "status-is-text": ("[[redirect]]\nfrom='/a'\nto='/b'\nstatus='301'", ["'status'", "number"]),
    "status-is-true": ("[[redirect]]\nfrom='/a'\nto='/b'\nstatus=true", ["'status'", "number"]),
    "to-is-relative": ("[[redirect]]\nfrom='/a'\nto='b'", ["'to'", "'b'", "URL"]),
    "to-is-empty": ("[[redirect]]\nfrom='/a'\nto=''", ["'to'"]),
    "to-without-scheme": ("[[redirect]]\nfrom='/a'\nto='//evil.example/'", ["'to'", "URL"]),
    "to-of-a-script": ("[[redirect]]\nfrom='/a'\nto='javascript:alert(1)'", ["'to'"]),
    "to-with-a-break": ('[[redirect]]\nfrom="/a"\nto="/b\\r\\nset-cookie: a=b"', ["'to'", "ASCII"]),
    "to-with-a-backslash": ("[[redirect]]\nfrom='/a'\nto='/\\evil.example'", ["'to'"]),
    "to-not-ascii": ("[[redirect]]\nfrom='/a'\nto='/\u00fc'", ["'to'", "percent-encoded"]),
    "to-chooses-a-host": ("[[redirect]]\nfrom='/a/*'\nto='https://$1.example/'", ["'to'"]),
    "to-host-runs-on": ("[[redirect]]\nfrom='/a/*'\nto='https://good.example$1'", ["'to'"]),
    "to-with-too-many": ("[[redirect]]\nfrom='/a/*'\nto='/$2'", ["'$2'", "1 wildcards"]),
    "to-with-none": ("[[redirect]]\nfrom='/a/*'\nto='/$0'", ["'$0'"]),
    "circle-of-one": ("[[redirect]]\nfrom='/**'\nto='/app/$1'", ["'/**'", "circle", "leave the target out"]),
    "circle-of-one-slash": ("[[redirect]]\nfrom='/a'\nto='/a/'", ["circle"]),
    "circle-of-two": ("[[redirect]]\nfrom='/a'\nto='/b?x#y'\n[[redirect]]\nfrom='/b'\nto='/%61'", ["circle", "'/a'"]),
    "header-without-set": ("[[header]]\npath='/**'", ["[[header]] number 1", "'set'", "X-Frame-Options"]),
    "header-twice": ('[[header]]\npath="/**"\nset={ A = "1", a = "2" }', ["'set'"]),
    "header-of-a-number": ("[[header]]\npath='/**'\nset={ A = 1 }", ["'set'"]),
    "header-with-a-break": ('[[header]]\npath="/**"\nset={ A = "x\\r\\nB: y" }', ["'a'", "one line"]),
    "header-with-a-control": ('[[header]]\npath="/**"\nset={ A = "x\\u0000" }', ["'a'"]),
    "header-not-ascii": ('[[header]]\npath="/**"\nset={ A = "\u00fc" }', ["'a'", "ASCII"]),
    "header-name-with-a-colon": ('[[header]]\npath="/**"\nset={ "A:" = "x" }', ["'a:'", "name"]),
    "header-name-with-a-break": ('[[header]]\npath="/**"\nset={ "A\\r\\nB" = "x" }', ["name"]),
    "header-length": ('[[header]]\npath="/**"\nset={ Content-Length = "1" }', ["'content-length'", "leave it out"]),
    "header-framing": ('[[header]]\npath="/**"\nset={ Transfer-Encoding = "chunked" }', ["'transfer-encoding'"]),
    "header-connection": ('[[header]]\npath="/**"\nset={ Connection = "close" }', ["'connection'"]),
    "header-cache": ('[[header]]\npath="/**"\nset={ Cache-Control = "no-store" }', ["'cache-control'", "[[cache]]"]),
    "header-type": ('[[header]]\npath="/**"\nset={ Content-Type = "a/b" }', ["'content-type'", "--mime"]),
    "header-location": ('[[header]]\npath="/**"\nset={ Location = "/x" }', ["'location'", "[[redirect]]"]),
    "cache-unknown": ("[[cache]]\npath='/**'\ncontrol='maxage=60'", ["[[cache]] number 1", "'maxage=60'", "max-age"]),
    "cache-without-number": ("[[cache]]\npath='/**'\ncontrol='public, max-age'", ["'max-age'", "max-age=SECONDS"]),
    "cache-odd-number": ("[[cache]]\npath='/**'\ncontrol='max-age=-1'", ["'max-age=-1'"]),
    "cache-no-number": ("[[cache]]\npath='/**'\ncontrol='immutable=1'", ["'immutable=1'", "write immutable"]),
    "cache-with-a-break": ('[[cache]]\npath="/**"\ncontrol="no-store\\r\\nA: b"', ["'control'"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_rule_that_cannot_be_is_one_line_with_its_place_and_a_remedy(tmp_path, case):
    text, named = BAD[case]
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(RulesError) as caught:
        files(tmp_path, rules=path)
    line = str(caught.value)
    assert "\n" not in line
    for each in [str(path), *named]:
        assert each in line


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    for path, why in ((tmp_path / "none", "No such file"), (tmp_path, "directory"), ("\0", "cannot be a path")):
        with pytest.raises(RulesError, match=why):
            read_rules(path)
    (tmp_path / "latin").write_bytes(b"# one\n# \xfc")
    with pytest.raises(RulesError, match="line 2 is not UTF-8"):
        read_rules(tmp_path / "latin")
    (tmp_path / "huge").write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    with pytest.raises(RulesError, match="no rules"):
        read_rules(tmp_path / "huge")


def test_a_chain_of_redirects_that_ends_is_no_circle():
    chain = [{"from": f"/{n}", "to": f"/{n + 1}"} for n in range(10)]
    assert len(rules_of({"redirect": chain}).redirects) == 10
