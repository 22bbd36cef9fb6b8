"""The text that is made of HTML says what the HTML said."""

from __future__ import annotations

import pytest

from flask_outmail.html_text import text_from_html


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Hello <b>Ann</b>,</p>\n<p>thank\n   you.</p>", "Hello Ann,\n\nthank you.\n"),
        (
            'See <a href="https://x.example/o?a=1&amp;b=2">your order</a>.',
            "See your order <https://x.example/o?a=1&b=2>.\n",
        ),
        ('<a href="https://x.example">https://x.example</a>', "https://x.example\n"),
        ('<a href="mailto:ann@x.example">ann@x.example</a>', "ann@x.example\n"),
        ('<a href="https://x.example"><img src="cid:1" alt="Shop"></a>', "Shop <https://x.example>\n"),
        ('<a href="https://x.example"><img src="cid:1"></a>', "<https://x.example>\n"),
        ('<a href="#top">up</a> <a href="javascript:x()">do</a>', "up do\n"),
        ("<ul><li>One</li><li>Two</li></ul>after", "- One\n- Two\n\nafter\n"),
        ("<ol><li>One<ul><li>a</li></ul></li><li>Two</li></ol>", "1. One\n  - a\n2. Two\n"),
        ("<table><tr><th>Tea</th><td>3 €</td></tr><tr><td>Milk</td><td>1 €</td></tr></table>", "Tea  3 €\nMilk  1 €\n"),
        ("<blockquote><p>one</p><p>two</p></blockquote>three", "> one\n>\n> two\n\nthree\n"),
        ("<blockquote>one</blockquote>two", "> one\n\ntwo\n"),
        ("<template>a</p>b</template>shown", "shown\n"),
        ("a<br>b<br><br>c", "a\nb\n\nc\n"),
        ("a<hr>b", "a\n\n--------------------\n\nb\n"),
        ("<pre>a\n  b</pre>", "a\n  b\n"),
        ("<head><title>t</title></head><style>p{}</style><script>x()</script>body", "body\n"),
        ('<div style="display:none">preheader <p>x</p></div>shown', "shown\n"),
        ('<p hidden>secret</p><img hidden alt="x">shown', "shown\n"),
        ("1 &lt; 2 &amp;&nbsp;3", "1 < 2 &\N{NO-BREAK SPACE}3\n"),
        ("", ""),
        ("<p> </p>", ""),
    ],
)
def test_html_becomes_what_a_person_would_type(html: str, text: str) -> None:
    assert text_from_html(html) == text


@pytest.mark.parametrize("html", ["<p>a<p>b", "</p></div>a</ul>", "<a href=x>y", "<li>x", "<style>p{}", "<!-- a", "<b"])
def test_broken_html_breaks_nothing(html: str) -> None:
    assert isinstance(text_from_html(html), str)
