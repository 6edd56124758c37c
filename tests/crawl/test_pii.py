"""Personal data is masked by its form, and what only looks like it stays."""

from __future__ import annotations

import pytest

from zero2chat_crawl.pii import PLACEHOLDERS, mask

FOUND = {
    "email": ["bob.smith+x@mail.example.co.uk", "näme@müller.de", "x_y@sub.domain.org", "a@xn--mller-kva.xn--p1ai"],
    "ip": ["8.8.8.8", "10.0.0.1", "192.168.178.23", "172.16.3.4"],
}
# Versions, addresses of no machine, dates, numbers of books and cards, code, digests
KEPT = """version 1.2.3.4;v1.2.3.4;127.0.0.1;0.0.0.0;255.255.255.0;999.1.1.1;@app.route;user@localhost;left-pad@1.2.3
2024-01-15 10:30:45;2024-01-15T10:30:45Z;12/31/1999;01.02.2024;ISBN 978-3-16-148410-0;ISBN 0-306-40615-2
4111 1111 1111 1112;1234567890123456;1700000000123;3.14159265358979;1,234,567.89;1 000 000 000;1990-2000;123-45-6789
std::vector;abc::def;0x7fff5fbff8a0;RFC 2822;pages 123-456;bug #1234567;port 5432;LC_ALL=1
d41d8cd98f00b204e9800998ecf8427e;550e8400-e29b-41d4-a716-446655440000;00:1A:2B:3C:4D:5E""".replace("\n", ";").split(";")


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
@pytest.mark.parametrize("around", ["{}", "Write to {} today.", "it ({}), or\n{}\nor <{}>; {}!"])
def test_each_form_is_found_wherever_it_stands(kind: str, text: str, around: str) -> None:
    masked, found = mask(around.replace("{}", text))
    assert masked == around.replace("{}", PLACEHOLDERS[kind])
    assert found == {kind: around.count("{}")}


@pytest.mark.parametrize("text", KEPT)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert mask(f"See {text} there.") == (f"See {text} there.", {})
    assert mask(text) == (text, {})


def test_the_number_of_a_section_is_no_address() -> None:
    text = "25.3.1.2. Setting it up\n\nThe host is 25.3.1.2."
    assert mask(text) == ("25.3.1.2. Setting it up\n\nThe host is [IP].", {"ip": 1})
    for word in ("Section", "Abschnitt", "Secció", "Secção", "Sezione", "capítulo", "avsnitt", "раздел", "ενότητα"):
        assert mask(f"({word} 6.3.5.2, of it)")[1] == {}
    assert mask("lásd 6.3.5.2 szakasz")[1] == {}
    assert mask("the secondary 10.0.0.2")[1] == {"ip": 1}


def test_no_text_takes_long() -> None:
    for piece in ("1", "1.", "a.", "a@", "0 ", "+1-", "::", "(1)", "a-b.", "1234 "):
        text = piece * (60_000 // len(piece))
        assert len(mask(text)[0]) <= len(text) + 100
