"""`explain` and what surrounds a message: any prefix, host, path, version, log, quotes, line ends.

Every message of every client, in surroundings made by hypothesis.  What surrounds it is not an
error message itself; that is asked of `explain` first.
"""

from __future__ import annotations

import re
import string
import textwrap

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qs_certs.knowledge import explain
from tests.test_knowledge import HOST, MESSAGES_OF_SECTION_6, PATH, PREFIXES

_NAME = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12)
_WORDS = st.text(string.ascii_letters + string.digits + " .:-_/()[]'\"=,#@%\u2014é日", max_size=60)

versions = st.builds("{}.{}.{}".format, *(st.integers(0, 99),) * 3)
hosts = st.one_of(
    st.builds("{}.{}.example".format, _NAME, _NAME),
    st.ip_addresses().map(str),
    st.builds("{}.platform-query.adobe.io".format, _NAME),
)
homes = st.one_of(
    st.builds("/home/{}".format, _NAME),
    st.builds("/Users/{}".format, _NAME),
    st.builds("C:\\Users\\{}\\AppData\\Roaming".format, _NAME),
    st.builds("D:\\Profile of {}".format, _NAME),
    st.builds("//server/share/{}".format, _NAME),
)
paths = st.builds(
    "{}{}root.crt".format, homes, st.sampled_from(["/.postgresql/", "\\postgresql\\"])
)
before = st.one_of(
    st.sampled_from([*PREFIXES.values()]),
    st.builds("[{}] ERROR {}: ".format, st.datetimes().map(str), _WORDS),
    st.builds("{} {} (libpq {}): ".format, _NAME, versions, versions),
    st.builds(
        'Traceback (most recent call last):\n  File "{}", line 7, in {}\n'.format, paths, _NAME
    ),
    st.builds(
        'connection to server at "{}" ({}), port 80 failed: '.format, hosts, st.ip_addresses()
    ),
    _WORDS.map(lambda words: words + " "),
)
after = st.one_of(
    st.just(""),
    st.just("\n\n(Background on this error at: https://sqlalche.me/e/21/e3q8)"),
    st.builds("\n\tat {}.{}(Unknown Source)\n\t... 9 more".format, _NAME, _NAME),
    st.builds("\n  code: {}\n  severity: {}".format, _NAME, _NAME),
    _WORDS.map(lambda words: "\n" + words),
)
wraps = st.one_of(
    st.just(lambda text: text),
    st.just(str.upper),
    st.just(lambda text: text.replace('"', "\u201d").replace("'", "\u2019")),
    st.just(lambda text: text.replace("\n", "\r\n> ")),
    st.just(lambda text: text.replace("\n", "\\n")),
    st.integers(20, 100).map(lambda width: lambda text: "\n".join(textwrap.wrap(text, width))),
    st.just(lambda text: f"\x1b[1;31m{text}\x1b[0m"),
)


@pytest.mark.parametrize(
    ("code", "message"),
    MESSAGES_OF_SECTION_6,
    ids=[f"{number}-{code}" for number, (code, _) in enumerate(MESSAGES_OF_SECTION_6)],
)
@settings(max_examples=25, deadline=None)
@given(before=before, after=after, host=hosts, path=paths, wrap=wraps)
def test_a_message_is_explained_alike_whatever_is_around_it(
    code: str, message: str, before: str, after: str, host: str, path: str, wrap: type[str]
) -> None:
    assume(explain(before + after) is None)
    elsewhere = message.replace(PATH, path).replace(HOST, host)
    found = explain(wrap(before + elsewhere + after))
    assert found is not None
    assert found.code == code


@settings(max_examples=200, deadline=None)
@given(before=before, after=after, words=_WORDS)
def test_the_surroundings_alone_are_not_explained(before: str, after: str, words: str) -> None:
    """The control: what is recognised is the message."""
    assume(not re.search("(?i)error|fail|eof|28p01", words))
    assert explain(before + words + after) is None
